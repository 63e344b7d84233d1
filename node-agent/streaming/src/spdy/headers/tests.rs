//! Header blocks, as moby/spdystream compresses them.

use super::*;
use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
    for (name, value) in headers {
        for text in [name, value] {
            block.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            block.extend(text.as_bytes());
        }
    }
    block
}

fn compressor() -> Compress {
    let mut zlib = Compress::new(Compression::best(), true);
    zlib.set_dictionary(&dictionary()).unwrap();
    zlib
}

fn compress(zlib: &mut Compress, plain: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::with_capacity(plain.len() + 1024);
    zlib.compress_vec(plain, &mut compressed, FlushCompress::Sync).unwrap();
    compressed
}

#[test]
fn the_dictionary_is_the_one_of_the_specification() {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in dictionary() {
        a = (a + u32::from(byte)) % 65521;
        b = (b + a) % 65521;
    }
    assert_eq!(dictionary().len(), 1423);
    assert_eq!(b << 16 | a, 0xe3c6_a7c2);
}

#[test]
fn blocks_share_one_stream() {
    let (mut zlib, mut inflater) = (compressor(), Inflater::new());
    for kind in ["error", "stdin", "stdout"] {
        let compressed =
            compress(&mut zlib, &block(&[("streamtype", kind), ("port", "80\u{0}81")]));
        let headers = inflater.block(&compressed).unwrap();
        assert_eq!(headers.get("streamType"), Some(kind));
        assert_eq!(headers.get("port"), Some("80"));
        assert_eq!(headers.get("nothing"), None);
    }
}

#[test]
fn a_block_that_inflates_to_megabytes_is_refused() {
    let bomb = compress(&mut compressor(), &vec![0; 4_000_000]);
    assert_eq!(Inflater::new().block(&bomb), Err(FrameError::TooLarge("header block")));
}

#[test]
fn too_many_headers_and_lengths_that_lie_are_refused() {
    let many = vec![("a", "b"); MAX_HEADERS + 1];
    let mut lying = block(&[("a", "b")]);
    lying[7] = 200;
    let trailing = [block(&[]), vec![0]].concat();
    for plain in [block(&many), lying, trailing, vec![], vec![0xff; 4]] {
        let compressed = compress(&mut compressor(), &plain);
        assert_eq!(Inflater::new().block(&compressed), Err(FrameError::Headers), "{plain:?}");
    }
}

proptest! {
    #[test]
    fn nothing_panics_on_any_block(
        plain in proptest::collection::vec(any::<u8>(), 0..200),
        compressed in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _refused = Inflater::new().block(&compressed);
        let _refused = Inflater::new().block(&compress(&mut compressor(), &plain));
        let _refused = parse(&plain);
    }

    #[test]
    fn what_was_compressed_comes_back(value in "[ -~]{0,2000}") {
        let compressed = compress(&mut compressor(), &block(&[("x", &value)]));
        let headers = Inflater::new().block(&compressed).unwrap();
        prop_assert_eq!(headers.get("X"), Some(value.as_str()));
    }
}
