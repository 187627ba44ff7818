//! Rows for the object's maps, and frames with the values that its programs return for them.
//!
//! A file of lines, done from top to bottom: `map NAME KEY VALUE` writes a row, `run PROGRAM FRAME RETURN` runs a program
//! on a frame. Keys, values and frames are hexadecimal bytes as the kernel has them; `#` begins a comment.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use aya::Ebpf;
use aya::maps::{Map, MapData};

use crate::program;
use crate::report::{Outcome, Report};

/// `BPF_MAP_UPDATE_ELEM`.
const UPDATE: libc::c_long = 2;
/// Wrong answers that are told one by one.
const TOLD: usize = 5;

/// The part of `union bpf_attr` that writes a row.
#[repr(C)]
struct Row {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[derive(Default)]
struct Tally {
    rows: usize,
    frames: usize,
    wrong: Vec<String>,
}

/// Does what the file says, and reports how many answers are as it says.
pub(crate) fn run(ebpf: &mut Ebpf, path: &Path, report: &mut Report) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut tally = Tally::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        if !words.is_empty() {
            follow(ebpf, &words, &mut tally)
                .with_context(|| format!("{}:{number}: the vector cannot be tried", path.display()))?;
        }
    }
    let Tally { rows, frames, wrong } = tally;
    let outcome = if wrong.is_empty() {
        Outcome::Passed(format!("{rows} rows written, {frames} frames judged as expected"))
    } else {
        let told = wrong[..wrong.len().min(TOLD)].join("\n      ");
        Outcome::Failed(format!(
            "{} of {frames} frames are not judged as expected:\n      {told}",
            wrong.len()
        ))
    };
    report.add("(all)", "vectors", &outcome);
    Ok(())
}

fn follow(ebpf: &mut Ebpf, words: &[&str], tally: &mut Tally) -> Result<()> {
    match words {
        ["map", name, key, value] => {
            let map = ebpf.map(name).with_context(|| format!("the object has no map {name}"))?;
            write(map, &bytes(key)?, &bytes(value)?).with_context(|| format!("map {name}"))?;
            tally.rows += 1;
        }
        ["run", name, frame, expected] => {
            let expected: i32 =
                expected.parse().with_context(|| format!("`{expected}` is no return value"))?;
            let program = ebpf.program(name).with_context(|| format!("the object has no program {name}"))?;
            let found = program::run(program, &bytes(frame)?)
                .with_context(|| format!("BPF_PROG_TEST_RUN of {name} fails"))?;
            tally.frames += 1;
            if found != expected {
                tally.wrong.push(format!("{name} returns {found}, and not {expected}, for {frame}"));
            }
        }
        other => {
            bail!("`{}` is neither `map NAME KEY VALUE` nor `run PROGRAM FRAME RETURN`", other.join(" "))
        }
    }
    Ok(())
}

fn write(map: &Map, key: &[u8], value: &[u8]) -> Result<()> {
    let map = rows_of(map)?;
    let info = map.info()?;
    for (what, found, right) in
        [("key", key.len(), info.key_size()), ("value", value.len(), info.value_size())]
    {
        ensure!(u32::try_from(found) == Ok(right), "the {what} has {found} bytes, and the map's has {right}");
    }
    let row = Row {
        map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        padding: 0,
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        flags: 0,
    };
    // SAFETY: `row` begins like the attribute of this command and has the given length; key and value live until the
    // call returns and have the lengths that the map says it reads, which has one value a key (`rows_of`).
    let result = unsafe { libc::syscall(libc::SYS_bpf, UPDATE, &raw const row, size_of::<Row>()) };
    if result != 0 {
        return Err(io::Error::last_os_error()).context("the kernel does not take the row");
    }
    Ok(())
}

/// The map, if it is of a type whose rows are plain bytes.
fn rows_of(map: &Map) -> Result<&MapData> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::LpmTrie(data) | Map::LruHashMap(data) => Ok(data),
        _ => bail!("only arrays, hash maps and prefix tries with one value a key can be written"),
    }
}

/// Bytes from hexadecimal digits, two for each.
fn bytes(digits: &str) -> Result<Vec<u8>> {
    ensure!(
        digits.len().is_multiple_of(2) && digits.bytes().all(|digit| digit.is_ascii_hexdigit()),
        "`{digits}` is not made of pairs of hexadecimal digits"
    );
    let pairs = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16));
    Ok(pairs.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_pairs_of_hexadecimal_digits_and_nothing_else() {
        assert_eq!(bytes("00fF10").unwrap(), [0, 255, 16]);
        for wrong in ["0", "0g", "+1", "äö"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
