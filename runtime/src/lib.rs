//! Many kernels over time and threads.
