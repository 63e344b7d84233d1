//! Numbers with their units and the promise they are held against, for people and as JSON.

use std::fmt;

use serde::Serialize;

/// One measured number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    /// What was measured.
    pub(super) what: String,
    /// Median of the repeats.
    pub(super) value: f64,
    /// Largest distance between two repeats.
    pub(super) spread: f64,
    /// Unit of both.
    pub(super) unit: &'static str,
    /// The promise, as text; empty when there is none.
    pub(super) goal: String,
    /// Whether the promise is kept; `None` when there is none.
    pub(super) met: Option<bool>,
}

/// The numbers of one measurement.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Table {
    /// Title.
    pub(super) title: String,
    /// The numbers.
    pub(super) rows: Vec<Row>,
    /// What a reader has to know about them.
    pub(super) notes: Vec<String>,
}

impl Table {
    pub(super) fn new(title: &str) -> Self {
        Self { title: title.to_owned(), ..Self::default() }
    }

    /// Adds the median of some repeats.
    pub(super) fn add(&mut self, what: &str, values: &[f64], unit: &'static str) {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
        let spread = sorted.last().zip(sorted.first()).map_or(0.0, |(last, first)| last - first);
        let what = what.to_owned();
        self.rows.push(Row { what, value: median, spread, unit, goal: String::new(), met: None });
    }

    /// Gives the row that was added last an upper limit.
    pub(super) fn at_most(&mut self, limit: f64, name: &str) {
        if let Some(row) = self.rows.last_mut() {
            row.goal = format!("<= {limit} ({name})");
            row.met = Some(row.value <= limit);
        }
    }

    /// Gives the row that was added last a lower limit.
    pub(super) fn at_least(&mut self, limit: f64, name: &str) {
        if let Some(row) = self.rows.last_mut() {
            row.goal = format!(">= {limit} ({name})");
            row.met = Some(row.value >= limit);
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.title)?;
        let width = self.rows.iter().map(|row| row.what.len()).max().unwrap_or_default();
        for row in &self.rows {
            let met = match row.met {
                None => "",
                Some(true) => "met",
                Some(false) => "NOT MET",
            };
            let spread = match row.spread {
                spread if spread > 0.0 => format!("± {:.2}", spread / 2.0),
                _ => String::new(),
            };
            let line = format!(
                "  {:width$}  {:>10.3} {:8} {spread:9} {:16} {met}",
                row.what, row.value, row.unit, row.goal
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_median_and_says_whether_its_promise_is_kept() {
        let mut table = Table::new("boot");
        table.add("ready", &[310.0, 290.0, 300.0], "vms");
        table.at_most(300.0, "B1");
        table.add("ratio", &[19.0], "");
        table.at_least(20.0, "B1");
        assert_eq!(table.rows[0].value, 300.0);
        assert_eq!(table.rows[0].spread, 20.0);
        assert_eq!(table.rows[0].met, Some(true));
        assert_eq!(table.rows[1].met, Some(false));
        assert!(table.to_string().contains("NOT MET"));
    }
}
