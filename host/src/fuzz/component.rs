//! Files that should be components, and files of the compile cache: foreign bytes before anything else knows them.

use crate::plugin::{cache, load};

pub(super) fn check(input: &[u8]) {
    // The format's own words: magic, version, layer 1.
    let is_component = input.len() >= 8 && &input[..4] == b"\0asm" && input[6] == 1;
    assert_eq!(load::check_header(input).is_ok(), is_component);
    // What a stranger writes is not taken for code; what we have written is, until a bit of it changes.
    let intact = cache::intact(input);
    let own = intact.is_some_and(|code| cache::sealed(code) == input);
    assert_eq!(intact.is_some(), own, "a file that we have not written is run");
    let mut sealed = cache::sealed(input);
    assert_eq!(cache::intact(&sealed), Some(input));
    let at =
        input.iter().fold(7_usize, |at, byte| at.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let at = at % (8 * sealed.len());
    sealed[at / 8] ^= 1 << (at % 8);
    assert_eq!(cache::intact(&sealed), None, "bit {at} is wrong");
}
