//! Reads LZ4's legacy frame, in which Debian's kernels are packed: blocks of up to 8 MiB, each with its length before it.

use anyhow::{Result, bail};

pub(crate) const MAGIC: [u8; 4] = 0x184c_2102_u32.to_le_bytes();

/// Unpacks a legacy frame; whatever follows the last block (the kernel appends its own size) is left alone.
pub(crate) fn unpack(frame: &[u8]) -> Result<Vec<u8>> {
    let Some(mut rest) = frame.strip_prefix(&MAGIC) else { bail!("not an LZ4 legacy frame") };
    let mut out = Vec::with_capacity(frame.len() * 4);
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 || length > after.len() {
            break;
        }
        let (block, next) = after.split_at(length);
        unpack_block(block, &mut out)?;
        rest = next;
    }
    if out.is_empty() {
        bail!("LZ4 frame without a block");
    }
    Ok(out)
}

/// One block is a row of sequences: literals, then a copy of what was already written.
fn unpack_block(mut block: &[u8], out: &mut Vec<u8>) -> Result<()> {
    while let Some((&token, after)) = block.split_first() {
        block = after;
        let literals = length(usize::from(token >> 4), &mut block)?;
        let Some((literal, after)) = block.split_at_checked(literals) else { bail!("LZ4 literals run past the block") };
        out.extend_from_slice(literal);
        block = after;
        let Some((distance, after)) = block.split_first_chunk::<2>() else { return Ok(()) }; // the last has no copy
        block = after;
        let distance = usize::from(u16::from_le_bytes(*distance));
        let copied = length(usize::from(token & 15), &mut block)? + 4;
        let Some(start) = out.len().checked_sub(distance).filter(|_| distance > 0) else {
            bail!("LZ4 copy reaches before the start")
        };
        if distance >= copied {
            out.extend_from_within(start..start + copied);
        } else {
            for at in start..start + copied {
                out.push(out[at]); // source and target overlap: a run
            }
        }
    }
    Ok(())
}

/// Four bits, and as many further bytes as are 255.
fn length(short: usize, block: &mut &[u8]) -> Result<usize> {
    let mut length = short;
    let mut more = short == 15;
    while more {
        let Some((&byte, after)) = block.split_first() else { bail!("LZ4 length runs past the block") };
        *block = after;
        length += usize::from(byte);
        more = byte == 255;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(block: &[u8]) -> Vec<u8> {
        let length = u32::try_from(block.len()).expect("small").to_le_bytes();
        [&MAGIC[..], &length[..], block].concat()
    }

    #[test]
    fn literals_and_an_overlapping_copy_are_unpacked() {
        // "ab", then 6 bytes from 2 back, then the literal "!"
        let block = [0x22, b'a', b'b', 2, 0, 0x10, b'!'];
        assert_eq!(unpack(&frame(&block)).expect("valid"), b"abababab!");
    }

    #[test]
    fn a_copy_from_before_the_start_is_refused() {
        assert!(unpack(&frame(&[0x12, b'a', 9, 0])).is_err());
    }
}
