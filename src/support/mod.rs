//! What commands share.

pub mod args;
pub mod backend;
pub mod entries;
pub mod inputs;
pub mod labels;
pub mod matrix_market;
pub mod noise;
pub mod output;
pub mod problem;
pub mod resident;
pub mod rounding;
pub mod table;
pub mod times;
pub mod timing;
