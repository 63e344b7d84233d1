//! The reader of archives, one format at a time.
