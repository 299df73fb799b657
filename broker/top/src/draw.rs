//! Drawing: the view's panels as boxes of a terminal. Wide terminals get two columns of boxes, narrow ones get one.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line as TextLine, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table};

use crate::panel::{Column, Line, Panel, Unit};
use crate::values::View;

/// From here on two boxes fit side by side.
const WIDE: u16 = 100;
const NAME_WIDTH: u16 = 14;
const VALUE_WIDTH: u16 = 14;
/// A number in a table, unless its head is wider.
const NUMBER_WIDTH: u16 = 9;

/// Draws the view under a line of `title`.
pub fn draw(frame: &mut Frame<'_>, view: &View, title: &str) {
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(frame.area());
    frame.render_widget(headline(view, title), head);
    for (at, (panel, area)) in view.panels().iter().zip(boxes(body, view)).enumerate() {
        let block = Block::bordered().title(panel.title());
        let inside = block.inner(area);
        frame.render_widget(block, area);
        match panel {
            Panel::Lines { lines, .. } => draw_lines(frame, view, at, lines, inside),
            Panel::Table { by, columns, .. } => draw_table(frame, view, by, columns, inside),
        }
    }
}

fn headline<'a>(view: &'a View, title: &'a str) -> Paragraph<'a> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let trouble =
        view.trouble.as_deref().map(|why| Span::styled(format!("  {why}"), bold.add_modifier(Modifier::REVERSED)));
    let spans = [Span::styled(title, bold), Span::raw("  q quits")].into_iter().chain(trouble);
    Paragraph::new(TextLine::from(spans.collect::<Vec<_>>()))
}

/// A box for each panel, in their order: down the left side, then down the right one.
fn boxes(area: Rect, view: &View) -> Vec<Rect> {
    let count = view.panels().len();
    let sides = if area.width >= WIDE { 2 } else { 1 };
    let columns = Layout::horizontal(vec![Constraint::Fill(1); sides]).split(area);
    let rows_count = count.div_ceil(sides);
    let mut boxes = Vec::with_capacity(count);
    for (side, panels) in columns.iter().zip(view.panels().chunks(rows_count.max(1))) {
        let heights: Vec<Constraint> = panels.iter().map(|panel| height(panel, view)).collect();
        boxes.extend(Layout::vertical(heights).split(*side).iter().copied());
    }
    boxes
}

/// Lines take what they need; tables share what is left by their rows.
fn height(panel: &Panel, view: &View) -> Constraint {
    match panel {
        Panel::Lines { lines, .. } => {
            Constraint::Length(u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2))
        }
        Panel::Table { by, columns, .. } => {
            Constraint::Fill(u16::try_from(view.rows(by, columns).len() + 3).unwrap_or(u16::MAX).min(12))
        }
    }
}

fn draw_lines(frame: &mut Frame<'_>, view: &View, panel: usize, lines: &[Line], area: Rect) {
    let areas = Layout::vertical(vec![Constraint::Length(1); lines.len()]).split(area);
    for ((number, line), area) in lines.iter().enumerate().zip(areas.iter()) {
        let parts = [Constraint::Length(NAME_WIDTH), Constraint::Length(VALUE_WIDTH), Constraint::Fill(1)];
        let [name, value, graph] = Layout::horizontal(parts).areas(*area);
        let history = view.history(panel, number);
        let last = history.last().copied();
        frame.render_widget(Paragraph::new(line.name), name);
        frame.render_widget(Paragraph::new(shown(last, line.unit)).right_aligned(), value);
        let newest = history.len().saturating_sub(usize::from(graph.width.saturating_sub(1)));
        let points: Vec<u64> = history.iter().skip(newest).map(|value| scaled(*value, line.unit)).collect();
        let graph = Rect { x: graph.x.saturating_add(1), width: graph.width.saturating_sub(1), ..graph };
        frame.render_widget(Sparkline::default().data(points), graph);
    }
}

/// Whole numbers for a graph; parts of a whole and of a second need their digits.
fn scaled(value: f64, unit: Unit) -> u64 {
    match unit {
        Unit::Share | Unit::Duration => (value * 1e6) as u64,
        _ => value as u64,
    }
}

fn draw_table(frame: &mut Frame<'_>, view: &View, by: &[&str], columns: &[Column], area: Rect) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let right = |text: String| Cell::from(TextLine::from(text).right_aligned());
    let heads = by.iter().map(|label| Cell::from(*label));
    let heads = heads.chain(columns.iter().map(|column| right(column.head.to_owned())));
    let rows = view.rows(by, columns).into_iter().map(|row| {
        let values = row.values.iter().zip(columns).map(|(value, column)| right(shown(*value, column.unit)));
        Row::new(row.key.iter().cloned().map(Cell::from).chain(values).collect::<Vec<_>>())
    });
    let width = |column: &Column| u16::try_from(column.head.len()).unwrap_or(u16::MAX).max(NUMBER_WIDTH);
    let numbers = columns.iter().map(|column| Constraint::Length(width(column)));
    let widths = by.iter().map(|_| Constraint::Fill(1)).chain(numbers);
    let table = Table::new(rows.collect::<Vec<_>>(), widths.collect::<Vec<_>>());
    frame.render_widget(table.header(Row::new(heads.collect::<Vec<_>>()).style(bold)), area);
}

/// A number as its unit is read.
fn shown(value: Option<f64>, unit: Unit) -> String {
    let Some(value) = value else { return "-".to_owned() };
    match unit {
        Unit::Count => prefixed(value, 1000.0, ["", "k", "M", "G"]),
        Unit::PerSecond => prefixed(value, 1000.0, ["/s", "k/s", "M/s", "G/s"]),
        Unit::Bytes => prefixed(value, 1024.0, [" B", " KiB", " MiB", " GiB"]),
        Unit::BytesPerSecond => prefixed(value, 1024.0, [" B/s", " KiB/s", " MiB/s", " GiB/s"]),
        Unit::Duration if value < 1e-3 => format!("{:.0} us", value * 1e6),
        Unit::Duration if value < 1.0 => format!("{:.1} ms", value * 1e3),
        Unit::Duration => format!("{value:.2} s"),
        Unit::Share => format!("{:.0} %", value * 100.0),
    }
}

fn prefixed(mut value: f64, step: f64, units: [&str; 4]) -> String {
    let [plain, larger @ ..] = units;
    let mut unit = plain;
    for next in larger {
        if value < step {
            break;
        }
        (value, unit) = (value / step, next);
    }
    match value.fract() == 0.0 || value >= 100.0 {
        true => format!("{value:.0}{unit}"),
        false => format!("{value:.1}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::panel::Reading;
    use crate::scrape::Scrape;

    const PANELS: &[Panel] = &[
        Panel::Lines {
            title: "Clients",
            lines: &[Line { name: "in", reading: Reading::Rate("in_bytes"), unit: Unit::BytesPerSecond }],
        },
        Panel::Table {
            title: "Shards",
            by: &["shard"],
            columns: &[Column { head: "busy", reading: Reading::Rate("busy_seconds"), unit: Unit::Share }],
        },
    ];

    fn screen(width: u16, view: &View) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, 12)).unwrap();
        terminal.draw(|frame| draw(frame, view, "watershed")).unwrap();
        terminal.backend().to_string()
    }

    fn view() -> View {
        let mut view = View::new(PANELS);
        for (bytes, busy) in [(0, 0.0), (4096, 1.0)] {
            let text = format!("in_bytes_total {bytes}\nbusy_seconds_total{{shard=\"0\"}} {busy}\n");
            view.take(Scrape::parse(&text).unwrap(), Duration::from_secs(2));
        }
        view
    }

    #[test]
    fn boxes_hold_their_numbers_beside_or_below_each_other() {
        for width in [60, 120] {
            let screen = screen(width, &view());
            for part in ["watershed", "Clients", "2 KiB/s", "Shards", "50 %"] {
                assert!(screen.contains(part), "{part} is missing in\n{screen}");
            }
        }
        let line = |text: &str, part: &str| text.lines().position(|line| line.contains(part)).unwrap();
        let (narrow, wide) = (screen(60, &view()), screen(120, &view()));
        assert!(line(&narrow, "Clients") < line(&narrow, "Shards"));
        assert_eq!(line(&wide, "Clients"), line(&wide, "Shards"));
    }

    #[test]
    fn a_failed_scrape_is_said_and_a_tiny_terminal_is_no_panic() {
        let mut view = view();
        view.failed("connection refused".to_owned());
        assert!(screen(80, &view).contains("connection refused"));
        screen(3, &view);
    }

    #[test]
    fn numbers_are_read_at_a_glance() {
        for (value, unit, text) in [
            (1536.0, Unit::Bytes, "1.5 KiB"),
            (999.0, Unit::Count, "999"),
            (12_345.0, Unit::PerSecond, "12.3k/s"),
            (0.000_25, Unit::Duration, "250 us"),
            (0.0125, Unit::Duration, "12.5 ms"),
            (2.0, Unit::Duration, "2.00 s"),
            (0.42, Unit::Share, "42 %"),
        ] {
            assert_eq!(shown(Some(value), unit), text);
        }
        assert_eq!(shown(None, Unit::Count), "-");
    }
}
