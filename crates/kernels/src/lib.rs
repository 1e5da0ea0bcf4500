//! The only unsafe code: other libraries' kernels behind functions that check what they are given.

pub mod cpu;
