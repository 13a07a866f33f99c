//! The plugin put into a node's list of plugins, and taken out.
