//! Data sets: what Caffe's data layers read, and the files that they are made of.
//!
//! [`Feed`] reads all data layers of a network ahead, on threads of its own.
#![deny(unsafe_code)]

pub mod arrays;
pub mod cifar;
pub mod data_base;
mod feed;
pub mod idx;
pub mod image_list;
pub mod leveldb;
pub mod lmdb;
pub mod npy;
pub mod picture;
mod random;
mod source;
mod transform;
mod unpack;

pub use feed::{Blob, Feed, FeedOptions};
pub use transform::{Image, Transform, Values};
