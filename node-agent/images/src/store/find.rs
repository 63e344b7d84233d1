//! Finding an image by whatever name somebody uses for it.

use std::sync::Arc;

use crate::image::Image;
use crate::reference::Reference;

/// Shortest beginning of an id that is taken for one.
const PREFIX_MIN: usize = 3;

/// Id, name, or beginning of an id, in this order.
pub(super) fn find<'a>(images: &'a [Arc<Image>], text: &str) -> Option<&'a Arc<Image>> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let id_of = |image: &'a Arc<Image>| image.id.strip_prefix("sha256:").unwrap_or(&image.id);
    let hexadecimal =
        digits.len() <= 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if hexadecimal && let Some(image) = images.iter().find(|image| id_of(image) == digits) {
        return Some(image);
    }
    if let Ok(reference) = Reference::parse(text)
        && let Some(image) = images.iter().find(|image| has_name(image, &reference))
    {
        return Some(image);
    }
    if !hexadecimal || digits.len() < PREFIX_MIN {
        return None;
    }
    let mut fitting = images.iter().filter(|image| id_of(image).starts_with(digits));
    fitting.next().filter(|_| fitting.next().is_none())
}

fn has_name(image: &Image, wanted: &Reference) -> bool {
    match (wanted.digest(), wanted.tagged()) {
        (Some(digest), _) => {
            let wanted = format!("{}@{digest}", wanted.name());
            image.repo_digests.contains(&wanted)
        }
        (None, Some(tagged)) if !image.pinned => image.repo_tags.contains(&tagged),
        // Names of bundled images are written as the folders are called.
        (None, Some(tagged)) => image.repo_tags.iter().any(|have| {
            Reference::parse(have).is_ok_and(|have| have.tagged().as_ref() == Some(&tagged))
        }),
        (None, None) => false,
    }
}
