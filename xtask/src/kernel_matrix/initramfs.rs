//! The first file system of an emulated kernel, as an archive in cpio's format `newc`
//! (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).

use anyhow::{Context, Result};

const FOLDER: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// The archive so far.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder; the one that it is in must be there.
    pub(super) fn folder(&mut self, path: &str) -> Result<()> {
        self.add(path, FOLDER, (0, 0), &[])
    }

    /// Adds a file that can be run.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.add(path, EXECUTABLE, (0, 0), content)
    }

    /// Adds a character device.
    pub(super) fn device(&mut self, path: &str, number: (u32, u32)) -> Result<()> {
        self.add(path, CHARACTER_DEVICE, number, &[])
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.add("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }

    fn add(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size =
            u32::try_from(content.len()).with_context(|| format!("{path} is too large for an archive"))?;
        let name = u32::try_from(path.len() + 1)?;
        // inode, mode, user, group, links, time, size, device of the file system (2), device (2), length of the name, sum
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
        Ok(())
    }

    /// Every header and every content begins at a multiple of four.
    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_format_says() {
        let mut archive = Archive::default();
        archive.file("init", b"abcde").unwrap();
        let bytes = archive.finish().unwrap();
        let header = "070701\
            00000001000081ed000000000000000000000001000000000000000500000000000000000000000000000000\
            0000000500000000";
        assert_eq!(&bytes[..110], header.as_bytes());
        assert_eq!(&bytes[110..124], b"init\0\0abcde\0\0\0");
        assert!(bytes[124..].starts_with(b"070701") && bytes.len().is_multiple_of(4));
    }
}
