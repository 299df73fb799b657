//! The only code that names io-uring or glommio.
