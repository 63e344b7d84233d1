//! Not written yet: the command line on top of the client library.
fn main() {}
