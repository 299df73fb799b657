//! Tables for people: columns as wide as their widest cell, two spaces apart; numbers to the right.

/// A table under construction.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these heads.
    pub(super) fn new<const N: usize>(heads: [&str; N]) -> Table {
        Table { rows: vec![heads.map(str::to_owned).to_vec()] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// The text, with a line's end behind each row.
    pub(super) fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let column = |place: usize| self.rows.iter().filter_map(move |row| row.get(place));
        let widths: Vec<usize> =
            (0..columns).map(|place| column(place).map(|cell| cell.chars().count()).max().unwrap_or(0)).collect();
        let is_number = |cell: &String| cell == "-" || cell.parse::<i64>().is_ok();
        let right: Vec<bool> = (0..columns).map(|place| column(place).skip(1).all(is_number)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&right) {
                let padding = " ".repeat(width - cell.chars().count());
                match right {
                    true => line.extend([&padding, cell.as_str(), "  "]),
                    false => line.extend([cell.as_str(), &padding, "  "]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["TOPIC", "PARTITIONS"]);
        table.row(["rivers".to_owned(), "4".to_owned()]);
        table.row(["a".to_owned(), "12".to_owned()]);
        assert_eq!(table.text(), "TOPIC   PARTITIONS\nrivers           4\na               12\n");
    }
}
