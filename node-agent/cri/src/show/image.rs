//! Images.

use ingot_images::Image;

use crate::v1;

/// An image.
pub(crate) fn image(image: &Image) -> v1::Image {
    // `user[:group]`; the kubelet wants to know whether the user is root.
    let user = image.config.user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok();
    let is_root = user.is_empty();
    v1::Image {
        id: image.id.clone(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        // Bundled images take no space of their own, but 0 would be read as "not there".
        size: image.size_bytes.max(1),
        uid: uid.filter(|_| !is_root).map(|value| v1::Int64Value { value }),
        username: if uid.is_none() { user.to_owned() } else { String::new() },
        spec: Some(v1::ImageSpec {
            image: image.repo_tags.first().unwrap_or(&image.id).clone(),
            ..v1::ImageSpec::default()
        }),
        pinned: image.pinned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingot_images::ImageConfig;

    fn of(user: &str) -> v1::Image {
        let config = ImageConfig { user: user.to_owned(), ..ImageConfig::default() };
        image(&Image { config, ..Image::default() })
    }

    #[test]
    fn the_user_is_told_by_number_or_by_name() {
        assert_eq!(of("1002:1003").uid.map(|uid| uid.value), Some(1002));
        assert_eq!(of("www-data:50").username, "www-data");
        assert_eq!(of("").uid, None);
        assert_eq!(of("").username, "");
        assert!(of("").size > 0);
    }
}
