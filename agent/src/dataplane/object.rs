//! The BPF object: its bytes, and the maps that it wants.

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::path::Path;

use siphasher::sip::SipHasher13;

use super::error::Error;
use super::maps::Sizes;
use super::sys::map::Shape;

#[cfg(embedded_object)]
static EMBEDDED: Option<&[u8]> = Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/polder.bpf.o")));
#[cfg(not(embedded_object))]
static EMBEDDED: Option<&[u8]> = None;

/// A BPF object that can be loaded.
#[derive(Debug)]
pub(super) struct Object {
    bytes: Vec<u8>,
    /// Where it comes from, for messages.
    from: String,
    /// The maps to be pinned, by name, with the sizes that were asked for.
    pub(super) maps: BTreeMap<String, Shape>,
}

impl Object {
    /// The object in a file, or else the one that was built in.
    pub(super) fn open(file: Option<&Path>, sizes: &Sizes) -> Result<Self, Error> {
        let (bytes, from) = match (file, EMBEDDED) {
            (Some(path), _) => {
                let from = path.display().to_string();
                let bytes = std::fs::read(path).map_err(|error| Error::Object {
                    from: from.clone(),
                    problem: format!("cannot be read: {error}"),
                })?;
                (bytes, from)
            }
            (None, Some(embedded)) => (embedded.to_vec(), "built into the agent".to_owned()),
            (None, None) => return Err(Error::NoObject),
        };
        let maps = maps(&bytes, &from, sizes)?;
        Ok(Self { bytes, from, maps })
    }

    /// The ELF file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A digest of the object.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        hasher.write(&self.bytes);
        hasher.finish()
    }

    /// A digest of what maps there are: names, types and sizes. Pinned maps serve only programs that agree in it.
    pub(super) fn layout(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        for (name, shape) in &self.maps {
            hasher.write(name.as_bytes());
            for number in [0, shape.kind, shape.key_size, shape.value_size, shape.max_entries] {
                hasher.write(&number.to_le_bytes());
            }
        }
        hasher.finish()
    }

    /// An error about it.
    pub(super) fn problem(&self, problem: String) -> Error {
        Error::Object { from: self.from.clone(), problem }
    }
}

fn maps(bytes: &[u8], from: &str, sizes: &Sizes) -> Result<BTreeMap<String, Shape>, Error> {
    let object = aya_obj::Object::parse(bytes).map_err(|error| Error::Object {
        from: from.to_owned(),
        problem: format!("is no BPF object: {error}"),
    })?;
    let named = sizes.by_name();
    let maps = object.maps.iter().filter(|(_, map)| map.section_kind() == aya_obj::EbpfSectionKind::BtfMaps);
    let maps = maps.map(|(name, map)| {
        let asked = named.iter().find(|(of, _)| of == name).map(|(_, size)| *size);
        let shape = Shape {
            kind: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            max_entries: asked.unwrap_or_else(|| map.max_entries()),
        };
        (name.clone(), shape)
    });
    Ok(maps.collect())
}
