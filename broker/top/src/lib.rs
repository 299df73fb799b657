//! A live view of a process in the terminal, drawn from its `/metrics` and nothing else.
//!
//! What is shown is data: a service names its metrics in [`Panel`]s, and this crate scrapes, computes rates and quantiles
//! between two scrapes, and draws. It knows no metric by name and depends on no service, so every one can use it.

mod draw;
mod http;
mod panel;
mod run;
mod scrape;
mod values;

pub use draw::draw;
pub use http::{HttpError, get};
pub use panel::{Column, Line, Panel, Reading, Unit};
pub use run::{RunError, run};
pub use scrape::{Labels, Sample, Scrape, ScrapeError};
pub use values::View;
