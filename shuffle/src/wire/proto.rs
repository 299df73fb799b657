//! The gRPC messages, generated from `proto/rss.proto` by `build.rs`; with the feature `server` also the stubs of servers
//! (`*_server`) and clients (`*_client`). Nothing is written by hand here.
#![allow(clippy::all, missing_docs, unreachable_pub, unused_qualifications)]

include!(concat!(env!("OUT_DIR"), "/rss.common.rs"));
