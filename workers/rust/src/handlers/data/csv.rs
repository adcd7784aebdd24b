//! A CSV file cut into ranges of rows, each summed up by itself. The file has a head with the names of
//! its columns, and no quotes.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tasker_worker_runtime::{Answer, Batch, HandlerError, StepContext};

use crate::handlers::HandlerResult;

/// Rows of a range when the template says nothing.
const DEFAULT_ROWS: u32 = 1_000;
/// After so many rows an instance stores how far it is.
const ROWS_A_CHECKPOINT: u64 = 100;
/// The column that is summed up when the context names no other as `column`.
const DEFAULT_COLUMN: &str = "amount";

/// The rows of an instance. They are counted from 1, the head not among them; both ends are in it.
/// By the bytes a worker gets to them without reading what comes before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Range {
    start_row: u64,
    end_row: u64,
    start_byte: u64,
    end_byte: u64,
}

/// How far an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Progress {
    next_byte: u64,
    rows: u64,
    sum: i64,
}

/// What an instance found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Sum {
    rows: u64,
    sum: i64,
}

/// Cuts the file at `csv_path` into ranges of as many rows as the template's `batch_size` says.
pub(crate) fn analyze_csv(step: &StepContext) -> HandlerResult {
    let size = u64::from(step.batch_size().unwrap_or(DEFAULT_ROWS));
    let mut file = open(step)?;
    let mut line = Vec::new();
    let mut at = file.read_until(b'\n', &mut line)? as u64;
    let (mut rows, mut ranges): (u64, Vec<Range>) = (0, Vec::new());
    loop {
        line.clear();
        let read = file.read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            break;
        }
        if !is_blank(&line) {
            if rows.is_multiple_of(size) {
                ranges.push(Range {
                    start_row: rows + 1,
                    end_row: rows,
                    start_byte: at,
                    end_byte: at,
                });
            }
            rows += 1;
            if let Some(range) = ranges.last_mut() {
                range.end_row = rows;
                range.end_byte = at + read;
            }
        }
        at += read;
    }
    let mut result = Batch::cursors(ranges)?;
    result["rows"] = json!(rows);
    Ok(result)
}

/// Sums up the rows of this instance's range, from where an earlier attempt has stopped.
pub(crate) fn process_csv_batch(step: &StepContext) -> Result<Answer, HandlerError> {
    let range: Range = step.cursor()?;
    let mut done = step.checkpoint_as()?.unwrap_or(Progress {
        next_byte: range.start_byte,
        rows: 0,
        sum: 0,
    });
    let mut file = open(step)?;
    let column = column(step, &mut file)?;
    file.seek(SeekFrom::Start(done.next_byte))?;
    let mut rest = file.take(range.end_byte.saturating_sub(done.next_byte));
    let until = done.rows + ROWS_A_CHECKPOINT;
    let mut line = Vec::new();
    while done.rows < until {
        line.clear();
        let read = rest.read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            break;
        }
        done.next_byte += read;
        if !is_blank(&line) {
            done.sum += amount(&line, column, range.start_row + done.rows)?;
            done.rows += 1;
        }
    }
    if done.next_byte < range.end_byte && done.rows == until {
        return Ok(Answer::Yield(serde_json::to_value(done)?));
    }
    let expected = range.end_row + 1 - range.start_row;
    if done.rows != expected {
        let message = format!(
            "rows {} to {} are {} rows now: the file has changed",
            range.start_row, range.end_row, done.rows
        );
        return Err(unfit(message));
    }
    let Progress { rows, sum, .. } = done;
    Ok(serde_json::to_value(Sum { rows, sum })?.into())
}

/// Adds up what the instances found; those that failed are counted.
pub(crate) fn aggregate_csv_results(step: &StepContext) -> HandlerResult {
    let instances = step.instances::<Sum>("process_csv_batch")?;
    let found = instances.iter().filter_map(|instance| instance.result);
    let (rows, sum) = found.fold((0, 0), |(rows, sum), found| {
        (rows + found.rows, sum + found.sum)
    });
    let failed = instances
        .iter()
        .filter(|instance| instance.result.is_none())
        .count();
    Ok(json!({"rows": rows, "sum": sum, "batches": instances.len(), "failed_batches": failed}))
}

fn open(step: &StepContext) -> Result<BufReader<File>, HandlerError> {
    let path: String = step.context_field("csv_path")?;
    match File::open(&path) {
        Ok(file) => Ok(BufReader::new(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(HandlerError::permanent(format!("there is no file {path}")).with_type("no_file"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Which column is summed up, told by the head.
fn column(step: &StepContext, file: &mut impl BufRead) -> Result<usize, HandlerError> {
    let name = step
        .optional_context_field::<String>("column")?
        .unwrap_or_else(|| DEFAULT_COLUMN.into());
    let mut head = Vec::new();
    file.read_until(b'\n', &mut head)?;
    let head = String::from_utf8_lossy(&head);
    head.trim_end()
        .split(',')
        .position(|column| column.trim() == name)
        .ok_or_else(|| unfit(format!("the file has no column {name}")))
}

fn amount(line: &[u8], column: usize, row: u64) -> Result<i64, HandlerError> {
    let line = String::from_utf8_lossy(line);
    let cell = line.trim_end().split(',').nth(column).unwrap_or_default();
    cell.trim()
        .parse()
        .map_err(|_| unfit(format!("row {row}: `{cell}` isn't a whole number")))
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

fn unfit(message: String) -> HandlerError {
    HandlerError::permanent(message).with_type("csv")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::Value;

    use super::*;

    /// A file of one test's own.
    struct Csv(PathBuf);

    impl Csv {
        fn new(name: &str, text: &str) -> Self {
            let name = format!("tasker-worker-{}-{name}.csv", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).expect("the folder can be written to");
            Self(path)
        }

        fn step(&self) -> StepContext {
            StepContext::draft("step", "data.csv").with_context(json!({"csv_path": self.0}))
        }

        fn cursors(&self, size: u32) -> Vec<Value> {
            let step = self.step().with_batch_config(json!({"batch_size": size}));
            let result = analyze_csv(&step).expect("the file is there");
            result["batch"]["cursors"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        }
    }

    impl Drop for Csv {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// What an instance answers in the end, and how often it has stored how far it is.
    fn run(csv: &Csv, cursor: &Value) -> Result<(Value, usize), HandlerError> {
        let inputs = json!({"cursor": cursor, "index": 0, "total": 1});
        let (mut step, mut times) = (csv.step().with_inputs(inputs.clone()), 0);
        loop {
            match process_csv_batch(&step)? {
                Answer::Result(result) => return Ok((result, times)),
                Answer::Yield(checkpoint) => {
                    times += 1;
                    let anew = csv.step().with_inputs(inputs.clone());
                    step = anew.with_checkpoint(checkpoint);
                }
            }
        }
    }

    fn numbers(count: u64) -> String {
        let rows = (1..=count).map(|row| format!("{row},{},x\n", row * 2));
        ["row_number,amount,note\n".to_owned()]
            .into_iter()
            .chain(rows)
            .collect()
    }

    #[test]
    fn the_ranges_cover_every_row_once_and_their_bytes_lead_to_them() {
        let csv = Csv::new("ranges", &numbers(7));
        let cursors = csv.cursors(3);
        let rows: Vec<_> = cursors
            .iter()
            .map(|cursor| (cursor["start_row"].as_u64(), cursor["end_row"].as_u64()))
            .collect();
        assert_eq!(
            rows,
            [(Some(1), Some(3)), (Some(4), Some(6)), (Some(7), Some(7))]
        );
        let sums: Vec<_> = cursors
            .iter()
            .map(|cursor| run(&csv, cursor).expect("the rows are good").0["sum"].clone())
            .collect();
        assert_eq!(sums, [json!(12), json!(30), json!(14)]);
    }

    #[test]
    fn a_long_range_goes_on_from_its_checkpoints() {
        let csv = Csv::new("checkpoints", &numbers(250));
        let (result, times) = run(&csv, &csv.cursors(250)[0]).expect("the rows are good");
        assert_eq!(result, json!({"rows": 250, "sum": 250 * 251}));
        assert_eq!(times, 2);
    }

    #[test]
    fn a_file_of_a_head_alone_has_no_ranges_and_a_last_row_needs_no_line_end() {
        assert!(Csv::new("head", "amount\n").cursors(3).is_empty());
        assert!(Csv::new("empty", "").cursors(3).is_empty());
        let csv = Csv::new("end", "amount\r\n5\r\n\r\n6");
        let (result, _) = run(&csv, &csv.cursors(9)[0]).expect("the rows are good");
        assert_eq!(result, json!({"rows": 2, "sum": 11}));
    }

    #[test]
    fn a_row_without_a_number_and_a_file_that_is_not_there_fail_for_good() {
        let csv = Csv::new("bad", "amount\n5\nsix\n");
        let error = run(&csv, &csv.cursors(9)[0]).expect_err("six is no number");
        assert_eq!(error.message(), "row 2: `six` isn't a whole number");
        assert!(!error.is_retryable());
        let step = StepContext::draft("analyze_csv", "data.analyze_csv")
            .with_context(json!({"csv_path": "/nowhere.csv"}));
        assert!(
            !analyze_csv(&step)
                .expect_err("it isn't there")
                .is_retryable()
        );
    }

    #[test]
    fn failed_batches_are_counted_beside_the_sum_of_the_others() {
        let step = StepContext::draft("aggregate", "data.aggregate_csv_results").with_dependency(
            "process_csv_batch",
            json!([
                {"index": 0, "status": "complete", "result": {"rows": 2, "sum": 7}},
                {"index": 1, "status": "error", "error": {"message": "no"}},
                {"index": 2, "status": "complete", "result": {"rows": 1, "sum": -3}},
            ]),
        );
        assert_eq!(
            aggregate_csv_results(&step),
            Ok(json!({"rows": 3, "sum": 4, "batches": 3, "failed_batches": 1}))
        );
    }
}
