//! What callers may send, and what is made of it.
