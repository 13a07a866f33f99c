//! Network namespaces as nodes and pods, and probes between them.
