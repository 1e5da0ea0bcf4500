//! The command line of the confidential image node.
