//! What archives may do to a folder, and what not.
