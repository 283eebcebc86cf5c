//! Disks compared from outside, by QEMU's own tools and block by block, without asking the product.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use crate::place::Said;

/// Granularity of the count.
pub const BLOCK_BYTES: usize = 65_536;

/// The image in a directory whose name begins and ends so; of several the one that was written last.
#[must_use]
pub fn newest_image(dir: &Path, begins: &str, ends: &str) -> PathBuf {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| name(path).starts_with(begins) && name(path).ends_with(ends));
    found.sort_by_key(|path| std::fs::metadata(path).and_then(|about| about.modified()).ok());
    found.pop().unwrap_or_else(|| panic!("no image {begins}…{ends} in {}", dir.display()))
}

/// What `qemu-img compare` says of two images that nobody writes.
#[must_use]
pub fn compared(one: &Path, other: &Path) -> String {
    Said::by(Command::new("qemu-img").args(["compare", "-U"]).args([one, other])).out.trim().to_owned()
}

/// What a guest would read from an image now, as a sparse raw file. The image may be in use.
pub fn raw_copy(image: &Path, to: &Path) {
    let said = Said::by(Command::new("qemu-img").args(["convert", "-U", "-O", "raw"]).args([image, to]));
    assert_eq!(said.code, 0, "copying {}: {said:?}", image.display());
}

/// How many blocks of 64 KiB differ between two raw files of the same length.
#[must_use]
pub fn differing_blocks(one: &Path, other: &Path) -> u64 {
    let open = |path: &Path| File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut one, mut other) = (open(one), open(other));
    let mut differing = 0;
    loop {
        let (a, b) = (block(&mut one), block(&mut other));
        assert_eq!(a.len(), b.len(), "the files have different lengths");
        if a.is_empty() {
            return differing;
        }
        differing += u64::from(a != b);
    }
}

fn block(file: &mut File) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    let read = file.take(BLOCK_BYTES as u64).read_to_end(&mut block);
    read.unwrap_or_else(|error| panic!("reading a copy: {error}"));
    block
}
