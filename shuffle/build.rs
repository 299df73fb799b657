//! Turns `proto/rss.proto` into Rust: the messages always, the stubs of servers and clients with the feature `server`.
//!
//! No `protoc` is needed. The compiled descriptor lies beside the generated code, so that a test can hold it against the
//! descriptor of the real client.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

const PROTO: &str = "proto/rss.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("rss.pb"), descriptors.encode_to_vec())?;
    let mut messages = prost_build::Config::new();
    messages.bytes(["."]);
    match std::env::var_os("CARGO_FEATURE_SERVER") {
        Some(_) => tonic_prost_build::configure().compile_fds_with_config(descriptors, messages)?,
        None => messages.compile_fds(descriptors)?,
    }
    Ok(())
}
