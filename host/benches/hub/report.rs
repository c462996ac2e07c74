//! What was measured, as a table that goes into a page as it is.

/// Rows in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<String>,
}

impl Report {
    /// Adds a row, and shows it at once: the whole takes minutes.
    pub(crate) fn row(&mut self, what: &str, target: &str, value: f64, unit: &str) {
        let value = if value < 1.0 { format!("{value:.3}") } else { format!("{value:.2}") };
        self.text(what, target, &format!("{value} {unit}"));
    }

    pub(crate) fn text(&mut self, what: &str, target: &str, measured: &str) {
        let row = format!("| {what} | {target} | {measured} |");
        println!("{row}");
        self.rows.push(row);
    }

    pub(crate) fn print(&self) {
        println!("\n| what | target | measured |\n|---|---|---|\n{}", self.rows.join("\n"));
    }
}
