//! Uniffle's bytes: gRPC messages, the frames of the Netty plane, index entries and bitmaps of block ids; nothing else.
//!
//! It never reads a socket, allocates by an unchecked number or panics on a client's bytes. What is served is what clients
//! 0.9.x and 0.10 send; what is answered can be read by both. Payloads of blocks are never copied here.

pub mod bitmap;
pub mod frame;
pub mod index;
pub mod proto;
pub mod reader;
pub mod reply;
pub mod request;
pub mod send;
pub mod status;
