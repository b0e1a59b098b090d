//! One layer on one machine.
