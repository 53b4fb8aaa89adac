//! How often a pass of the network asks for memory, once its buffers have grown: a number that a
//! profile of times does not show and that only ever creeps up. A binary of its own, because it counts
//! through the global allocator.
//!
//! One test, so that nobody else allocates meanwhile.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tutti::decode::{Beam, Encoded, Loaded, Row, Steps, Translator};
use tutti::model::{Backend, Dtype};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator; counts what each thread asks for, new memory and more of it alike.
struct Counting;

fn count() {
    // A thread that is ending has nothing to count with any more.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is the system allocator's own answer; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread in one call, the fifth of its kind.
fn steady<T>(mut call: impl FnMut() -> T) -> u64 {
    (0..4).for_each(|_| drop(call()));
    let before = COUNT.get();
    let answer = call();
    let allocations = COUNT.get() - before;
    drop(answer);
    allocations
}

/// Twelve words, the shape of the README's tables, products in eight bits, one thread.
fn measure(batch: usize) -> (u64, u64) {
    let shape = "enc=3,dec=3,d=256,ffn=1024,heads=4,vocab=8000".parse().unwrap();
    let network = Loaded::random(&shape, 1, &Backend::cpu().with_dtype(Dtype::Q8)).unwrap();
    let words = |seed: usize| (0..12).map(move |place| 5 + ((seed * 31 + place * 7) % 7900) as u32);
    let sources: Vec<Vec<u32>> =
        (0..batch).map(|seed| std::iter::once(1).chain(words(seed)).chain([2]).collect()).collect();
    let sources: Vec<&[u32]> = sources.iter().map(Vec::as_slice).collect();
    let encode = steady(|| network.encode(&sources).unwrap());
    let mut lengths = vec![f32::NEG_INFINITY; 13];
    lengths[12] = 0.0;
    let beam = Beam::new(&lengths, 1, Steps::ONE, network.specials()).unwrap();
    let encoded: Vec<Encoded<_>> = network.encode(&sources).unwrap();
    let rows: Vec<Row<_>> = encoded.iter().flat_map(|sentence| beam.rows(&sentence.memory)).collect();
    let decode = steady(|| network.decode(&rows).unwrap());
    (encode, decode)
}

#[test]
fn a_steady_pass_allocates_little_and_hardly_more_for_each_further_row() {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    let ((encode_one, decode_one), (encode_all, decode_all)) = (measure(1), measure(64));
    println!("encode: {encode_one} at batch 1, {encode_all} at batch 64");
    println!("decode: {decode_one} at batch 1, {decode_all} at batch 64");
    panic!("{encode_one} {encode_all} {decode_one} {decode_all}");
}
