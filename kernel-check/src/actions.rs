//! The values that a program may return, by their names in the kernel.

use aya::programs::Program;

const TC: [(i32, &str); 10] = [
    (-1, "UNSPEC"),
    (0, "OK"),
    (1, "RECLASSIFY"),
    (2, "SHOT"),
    (3, "PIPE"),
    (4, "STOLEN"),
    (5, "QUEUED"),
    (6, "REPEAT"),
    (7, "REDIRECT"),
    (8, "TRAP"),
];

const XDP: [(i32, &str); 5] = [(0, "ABORTED"), (1, "DROP"), (2, "PASS"), (3, "TX"), (4, "REDIRECT")];

/// The name of a value that a program of this type returns; none if the kernel does not know it.
pub(crate) fn name(program: &Program, value: i32) -> Option<&'static str> {
    let known: &[(i32, &str)] = match program {
        Program::SchedClassifier(_) => &TC,
        Program::Xdp(_) => &XDP,
        _ => &[],
    };
    known.iter().find(|(action, _)| *action == value).map(|(_, name)| *name)
}
