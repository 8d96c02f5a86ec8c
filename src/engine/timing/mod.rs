//! The program on time: engines, queues, memory spaces, causes.
