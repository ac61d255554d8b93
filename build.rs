//! Compiles `proto/` with a pure-Rust compiler, so that nobody needs protoc. The same descriptor
//! set feeds gRPC reflection.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

/// Messages that carry a plaintext DEK: wiped when dropped, and without a `Debug` that shows it.
const SECRET_MESSAGES: [&str; 3] = [
    ".kekd.v1.UnwrapResponse",
    ".kekd.v1.UnwrapResponse.release",
    ".kekd.worker.v1.Unwrapped",
];

#[expect(
    clippy::disallowed_methods,
    reason = "cargo talks to build scripts through the environment"
)]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    let public = protox::compile(
        [
            "kekd/v1/unwrap.proto",
            "kekd/v1/keys.proto",
            "kekd/v1/node.proto",
            "kekd/v1/ledger.proto",
            "kekd/v1/quorum.proto",
            "kekd/v1/audit.proto",
        ],
        ["proto"],
    )?;
    std::fs::write(out.join("kekd.v1.bin"), public.encode_to_vec())?;
    let builder = tonic_prost_build::configure().skip_debug(SECRET_MESSAGES);
    builder.clone().compile_fds(public)?;

    let worker = protox::compile(["kekd/worker/v1/worker.proto"], ["proto"])?;
    builder
        .build_client(false)
        .build_server(false)
        .compile_fds(worker)?;
    Ok(())
}
