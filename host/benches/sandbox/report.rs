//! What was measured, as a table that goes into a page as it is.

/// Rows in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<String>,
}

impl Report {
    /// Adds a row, and shows it at once: the whole takes minutes.
    pub(crate) fn row(&mut self, what: &str, target: &str, measured: &str) {
        let row = format!("| {what} | {target} | {measured} |");
        println!("{row}");
        self.rows.push(row);
    }

    pub(crate) fn print(&self) {
        println!("\n| what | target | measured |\n|---|---|---|\n{}", self.rows.join("\n"));
    }
}

/// The value that the share `q` of all values does not exceed.
pub(crate) fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q).round() as usize]
}
