//! Executable memory: never writable and executable at once, alive as long as an entry, named for
//! profilers; and the hash of specifications.

use std::hash::{Hash, Hasher};
use std::path::PathBuf;

use skimjit_jit::asm::{Avx2Asm, Gp, Mem, VectorAsm};
use skimjit_jit::observe::{CodeObserver, PerfMap, PublishedCode};
use skimjit_jit::{Code, CodeRegion, EntryPoint, SpecHash, SpecHasher};

/// Code with an entry "answer" that stores `value` where the first word of its arguments points.
/// It has general-purpose instructions only, so it runs everywhere.
fn answer(value: i64) -> Code {
    let mut asm = Avx2Asm::new();
    asm.entry("answer", 16);
    asm.load64(Gp::Rax, Mem::new(Gp::Rdi, 0));
    asm.mov_imm(Gp::Rcx, value);
    asm.store64(Mem::new(Gp::Rax, 0), Gp::Rcx);
    asm.ret_near();
    asm.finish()
}

#[repr(C)]
struct Args {
    result: *mut i64,
}

fn call(entry: &EntryPoint<Args>) -> i64 {
    let mut result = 0;
    // SAFETY: every entry of these tests is the code of `answer`, which writes one i64 to `result`.
    unsafe {
        entry.call(
            &skimjit_jit::Arithmetic::begin(),
            &Args {
                result: &mut result,
            },
        )
    };
    result
}

/// Permissions of the mapping that holds `address`, checking that none is writable and executable.
fn permissions(address: usize) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux");
    let mut found = None;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, flags) = (fields.next().expect("range"), fields.next().expect("flags"));
        assert!(
            !(flags.contains('w') && flags.contains('x')),
            "writable and executable: {line}"
        );
        let (start, end) = range.split_once('-').expect("start-end");
        let hex = |text| usize::from_str_radix(text, 16).expect("hexadecimal");
        if (hex(start)..hex(end)).contains(&address) {
            found = Some(flags.to_owned());
        }
    }
    found.expect("mapped")
}

#[test]
fn regions_are_executable_and_never_writable() {
    let small = CodeRegion::publish(&answer(1)).expect("published");
    let big = Code {
        bytes: vec![0xC3; 5 << 20],
        ..Code::default()
    };
    let big = CodeRegion::publish(&big).expect("published");
    for region in [&small, &big] {
        assert_eq!(permissions(region.addresses().start), "r-xp");
        assert_eq!(permissions(region.addresses().end - 1), "r-xp");
    }
}

#[test]
fn codes_share_a_region_at_cache_line_boundaries() {
    let codes = [answer(7), Code::default(), answer(8), answer(9)];
    let refs: Vec<&Code> = codes.iter().collect();
    let (region, bases) = CodeRegion::publish_all(&refs).expect("published");
    assert_eq!(bases.len(), codes.len());
    let mut covered = vec![false; region.len()];
    for (code, &base) in codes.iter().zip(&bases) {
        assert_eq!(base % 64, 0);
        assert_eq!(&region.bytes()[base..base + code.bytes.len()], code.bytes);
        covered[base..base + code.bytes.len()].fill(true);
    }
    for (i, _) in covered.iter().enumerate().filter(|(_, covered)| !**covered) {
        assert_eq!(region.bytes()[i], 0xCC, "gap byte {i} does not trap");
    }
    for (i, expected) in [(0, 7), (2, 8), (3, 9)] {
        let offset = bases[i] + codes[i].entry_offset("answer").expect("named");
        assert_eq!(
            call(&EntryPoint::new(&region, offset).expect("inside")),
            expected
        );
    }
}

#[test]
fn empty_code_is_published_and_has_no_entry() {
    let region = CodeRegion::publish(&Code::default()).expect("published");
    assert!(region.is_empty() && region.bytes().is_empty());
    assert!(EntryPoint::<Args>::new(&region, 0).is_none());
    let (region, bases) = CodeRegion::publish_all(&[]).expect("published");
    assert!(region.is_empty() && bases.is_empty());
}

#[test]
fn entries_outside_their_region_are_refused() {
    let code = answer(1);
    let region = CodeRegion::publish(&code).expect("published");
    assert!(EntryPoint::<Args>::new(&region, code.bytes.len() - 1).is_some());
    for offset in [code.bytes.len(), 4096, usize::MAX] {
        assert!(EntryPoint::<Args>::new(&region, offset).is_none());
    }
}

#[test]
fn entries_cross_threads_and_keep_their_region() {
    let code = answer(42);
    let region = CodeRegion::publish(&code).expect("published");
    let offset = code.entry_offset("answer").expect("named");
    let entry = EntryPoint::new(&region, offset).expect("inside");
    drop(region);
    let clone = entry.clone();
    drop(entry);
    assert_eq!(
        std::thread::spawn(move || call(&clone))
            .join()
            .expect("ran"),
        42
    );
}

fn hash_of(value: &impl Hash) -> SpecHash {
    let mut hasher = SpecHasher::new();
    value.hash(&mut hasher);
    hasher.finish128()
}

/// Pinned: artifacts and tune caches name kernels by this hash.
#[test]
fn hashes_are_stable() {
    let spec = (
        3u32,
        [1u8, 2, 3].as_slice(),
        "conv2",
        Some(-1isize),
        1usize << 40,
    );
    assert_eq!(hash_of(&spec), SpecHash(PINNED), "{:#x}", hash_of(&spec).0);
}
const PINNED: u128 = 0x14e3_7549_8f11_9b04_594d_cfb7_5c92_e4be;

#[test]
fn every_bit_of_the_input_reaches_every_part_of_the_hash() {
    let base = [0u32; 9];
    let mut seen = vec![hash_of(&base).0];
    for bit in 0..32 * base.len() {
        let mut flipped = base;
        flipped[bit / 32] ^= 1 << (bit % 32);
        seen.push(hash_of(&flipped).0);
    }
    for (i, a) in seen.iter().enumerate() {
        for b in &seen[i + 1..] {
            let distance = (a ^ b).count_ones();
            assert!(
                (30..98).contains(&distance),
                "{a:#034x} {b:#034x}: {distance} bits"
            );
        }
    }
}

#[test]
fn sequences_of_different_length_differ() {
    let mut seen: Vec<SpecHash> = (0..100usize).map(|len| hash_of(&vec![0u8; len])).collect();
    seen.extend((1..100usize).map(|len| hash_of(&vec![0u32; len])));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 199);
    let mut hasher = SpecHasher::new();
    7u64.hash(&mut hasher);
    assert_eq!(hasher.finish128().0 >> 64, u128::from(hasher.finish()));
}

#[test]
fn perf_map_lines_hold_address_size_and_a_one_line_name() {
    let path: PathBuf = std::env::temp_dir().join(format!("skimjit-perf-{}", std::process::id()));
    let region = CodeRegion::publish(&answer(1)).expect("published");
    for name in ["sparse_conv.baked.avx2 conv2", "two\nlines"] {
        let map = PerfMap::append_to(&path).expect("opened");
        let code = PublishedCode {
            name,
            addresses: region.addresses(),
            bytes: region.bytes(),
            entries: &[],
            source: None,
        };
        map.register(&code).expect("written");
    }
    let text = std::fs::read_to_string(&path).expect("readable");
    std::fs::remove_file(&path).expect("removed");
    let (start, size) = (region.addresses().start, region.len());
    let expected =
        format!("{start:x} {size:x} sparse_conv.baked.avx2 conv2\n{start:x} {size:x} two lines\n");
    assert_eq!(text, expected);
}
