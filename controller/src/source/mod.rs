//! Objects from files.
