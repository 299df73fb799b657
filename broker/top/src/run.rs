//! The loop: scrape, draw, and wait for a key or the next scrape. The terminal is as before when it ends.

use std::io;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};

use crate::http::{self, HttpError};
use crate::panel::Panel;
use crate::scrape::Scrape;
use crate::values::View;

/// How long one scrape may take.
const SCRAPE_WAIT: Duration = Duration::from_secs(5);

/// Why the view could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the terminal: {0}")]
    Terminal(#[from] io::Error),
}

/// Shows the panels of the process whose admin HTTP is at `address`, until q, Escape or Ctrl-C. The first scrape has to
/// work; later ones that fail are shown.
pub fn run(address: &str, title: &str, panels: &'static [Panel], every: Duration) -> Result<(), RunError> {
    let first = http::get(address, "/metrics", SCRAPE_WAIT)?;
    let mut view = View::new(panels);
    let taken = Instant::now();
    take(&mut view, Ok(first), Duration::ZERO);
    let mut terminal = ratatui::try_init()?;
    let shown = Loop { address, title, every, taken, due: taken + every }.show(&mut terminal, &mut view);
    ratatui::restore();
    Ok(shown?)
}

struct Loop<'a> {
    address: &'a str,
    title: &'a str,
    every: Duration,
    /// The last scrape that worked.
    taken: Instant,
    /// The next one.
    due: Instant,
}

impl Loop<'_> {
    fn show(&mut self, terminal: &mut DefaultTerminal, view: &mut View) -> io::Result<()> {
        loop {
            terminal.draw(|frame| crate::draw(frame, view, self.title))?;
            if event::poll(self.due.saturating_duration_since(Instant::now()))? {
                if is_quit(&event::read()?) {
                    return Ok(());
                }
                continue;
            }
            let text = http::get(self.address, "/metrics", SCRAPE_WAIT);
            let now = Instant::now();
            if take(view, text, now.duration_since(self.taken)) {
                self.taken = now;
            }
            self.due = now + self.every;
        }
    }
}

/// Takes a scrape over, or why there is none.
fn take(view: &mut View, text: Result<String, HttpError>, elapsed: Duration) -> bool {
    let scrape = text.map_err(|error| error.to_string());
    let scrape = scrape.and_then(|text| Scrape::parse(&text).map_err(|error| error.to_string()));
    match scrape {
        Ok(scrape) => {
            view.take(scrape, elapsed);
            true
        }
        Err(why) => {
            view.failed(why);
            false
        }
    }
}

fn is_quit(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) || (is_control && key.code == KeyCode::Char('c'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::crossterm::event::KeyEvent;

    #[test]
    fn q_escape_and_control_c_quit() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        assert!(is_quit(&key(KeyCode::Char('q'), KeyModifiers::NONE)));
        assert!(is_quit(&key(KeyCode::Esc, KeyModifiers::NONE)));
        assert!(is_quit(&key(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!is_quit(&key(KeyCode::Char('c'), KeyModifiers::NONE)));
        assert!(!is_quit(&Event::FocusGained));
    }
}
