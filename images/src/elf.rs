//! Architecture, loader and libraries of a program, read from its ELF headers (System V ABI, *Object Files*).

/// A processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `amd64`.
    Amd64,
    /// `arm64`.
    Arm64,
}

impl Architecture {
    /// Returns the name in an image's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Returns Debian's name of the directory of libraries.
    pub fn triplet(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }
}

/// The facts of an ELF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// The architecture.
    pub architecture: Architecture,
    /// The path of the loader. `None`: the program is linked statically.
    pub loader: Option<String>,
    /// Names of the libraries that it is linked with.
    pub libraries: Vec<String>,
}

/// Reads an ELF file.
///
/// # Errors
/// A sentence about the first header that cannot be used.
pub fn read(file: &[u8]) -> Result<Elf, String> {
    parse(file).ok_or_else(|| "want a 64-bit little-endian ELF file of amd64 or arm64".to_owned())
}

const LOAD: u64 = 1;
const DYNAMIC: u64 = 2;
const INTERPRETER: u64 = 3;
const NEEDED: u64 = 1;
const STRING_TABLE: u64 = 5;

fn parse(file: &[u8]) -> Option<Elf> {
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let architecture = match number(file, 18, 2)? {
        62 => Architecture::Amd64,
        183 => Architecture::Arm64,
        _ => return None,
    };
    let (start, size, count) = (number(file, 32, 8)?, number(file, 54, 2)?, number(file, 56, 2)?);
    let headers: Vec<Segment> = (0..count)
        .map(|index| Segment::read(file, start.checked_add(index * size)?))
        .collect::<Option<_>>()?;
    let of_kind = |kind| headers.iter().find(move |segment| segment.kind == kind);
    let loader = match of_kind(INTERPRETER) {
        Some(segment) => Some(text(file, segment.offset)?),
        None => None,
    };
    let mut libraries = Vec::new();
    if let Some(dynamic) = of_kind(DYNAMIC) {
        let entries: Vec<(u64, u64)> = (0..dynamic.size / 16)
            .map_while(|index| {
                let at = dynamic.offset.checked_add(index * 16)?;
                Some((number(file, at, 8)?, number(file, at.checked_add(8)?, 8)?))
            })
            .take_while(|(tag, _)| *tag != 0)
            .collect();
        let names = entries.iter().find(|(tag, _)| *tag == STRING_TABLE).map(|(_, address)| *address);
        for (_, name) in entries.iter().filter(|(tag, _)| *tag == NEEDED) {
            let address = names?.checked_add(*name)?;
            let segment = headers.iter().find(|segment| segment.kind == LOAD && segment.contains(address))?;
            libraries.push(text(file, (address - segment.address).checked_add(segment.offset)?)?);
        }
    }
    Some(Elf { architecture, loader, libraries })
}

/// A program header.
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    size: u64,
}

impl Segment {
    fn read(file: &[u8], at: u64) -> Option<Self> {
        let field = |offset: u64, width| number(file, at.checked_add(offset)?, width);
        Some(Self { kind: field(0, 4)?, offset: field(8, 8)?, address: field(16, 8)?, size: field(32, 8)? })
    }

    fn contains(&self, address: u64) -> bool {
        address.checked_sub(self.address).is_some_and(|offset| offset < self.size)
    }
}

fn number(file: &[u8], at: u64, width: usize) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let bytes = file.get(at..at.checked_add(width)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn text(file: &[u8], at: u64) -> Option<String> {
    let rest = file.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    String::from_utf8(rest[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_test_program_and_no_prefix_of_it_panics() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        let elf = read(&file).unwrap();
        if elf.loader.is_some() {
            assert!(elf.libraries.iter().any(|name| name.starts_with("libc.so")), "{elf:?}");
        }
        for length in (0..2048).chain([file.len() / 2]) {
            let _ = read(&file[..length]);
        }
        for at in 0..512 {
            let mut damaged = file[..64 * 1024].to_vec();
            damaged[at] = 0xff;
            let _ = read(&damaged);
        }
    }

    #[test]
    fn other_files_are_refused() {
        for file in [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x01\x01"] {
            assert!(read(file).unwrap_err().contains("ELF"), "{file:?}");
        }
    }
}
