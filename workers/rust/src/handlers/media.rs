//! `media.*`: a thumbnail for each image of a list. The images are names and sizes; no file is read.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tasker_worker_runtime::{HandlerError, StepContext};

use super::HandlerResult;

/// How many images there are when the context says nothing.
const DEFAULT_COUNT: u32 = 3;
const WIDTH: u32 = 4_000;
const HEIGHT: u32 = 3_000;
/// The longer side of a thumbnail.
const THUMBNAIL: u32 = 160;

#[derive(Serialize, Deserialize)]
struct Image {
    name: String,
    width: u32,
    height: u32,
}

/// Gives the `images` of the context, each with `name`, `width` and `height`; else makes up as many
/// as `count` says.
pub(crate) fn list_images(step: &StepContext) -> HandlerResult {
    let images = if let Some(images) = step.optional_context_field::<Vec<Image>>("images")? {
        images
    } else {
        let count = step.optional_context_field("count")?;
        made_up(count.unwrap_or(DEFAULT_COUNT))
    };
    Ok(json!({"images": images}))
}

fn made_up(count: u32) -> Vec<Image> {
    let image = |number: u32| Image {
        name: format!("image_{number:05}"),
        width: WIDTH,
        height: HEIGHT,
    };
    (1..=count).map(image).collect()
}

/// Makes the thumbnail of one image.
pub(crate) fn make_thumbnail(step: &StepContext) -> HandlerResult {
    let image: Image = step.item()?;
    let longer = image.width.max(image.height);
    if image.width.min(image.height) == 0 {
        let message = format!("{} has no pixels", image.name);
        return Err(HandlerError::permanent(message).with_type("empty_image"));
    }
    let scaled = |side: u32| {
        let side = u64::from(side) * u64::from(THUMBNAIL.min(longer)) / u64::from(longer);
        u32::try_from(side.max(1)).unwrap_or(THUMBNAIL)
    };
    Ok(serde_json::to_value(Image {
        name: format!("{}_thumb", image.name),
        width: scaled(image.width),
        height: scaled(image.height),
    })?)
}

/// Publishes the thumbnails, which come in the order of the images.
pub(crate) fn publish_gallery(step: &StepContext) -> HandlerResult {
    let thumbnails: Vec<Image> = step.dependency("make_thumbnail")?;
    let name = |image: Option<&Image>| image.map(|image| image.name.clone());
    Ok(json!({
        "count": thumbnails.len(),
        "first": name(thumbnails.first()),
        "last": name(thumbnails.last()),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn thumbnail(width: u32, height: u32) -> HandlerResult {
        let item = json!({"name": "cat", "width": width, "height": height});
        let step = StepContext::draft("make_thumbnail_000001", "media.make_thumbnail")
            .with_inputs(json!({"item": item, "index": 0, "total": 1}));
        make_thumbnail(&step)
    }

    #[test]
    fn a_thumbnail_keeps_the_proportions_and_is_never_larger_than_its_image() {
        let size = |thumbnail: HandlerResult| {
            let thumbnail = thumbnail.expect("it has pixels");
            (thumbnail["width"].clone(), thumbnail["height"].clone())
        };
        assert_eq!(size(thumbnail(4000, 3000)), (json!(160), json!(120)));
        assert_eq!(size(thumbnail(3000, 6000)), (json!(80), json!(160)));
        assert_eq!(size(thumbnail(16, 9)), (json!(16), json!(9)));
        assert_eq!(size(thumbnail(10_000, 1)), (json!(160), json!(1)));
    }

    #[test]
    fn an_image_without_pixels_fails_for_good() {
        assert!(!thumbnail(0, 3).expect_err("it is empty").is_retryable());
    }

    #[test]
    fn a_gallery_of_nothing_is_published_too() {
        let listed = list_images(
            &StepContext::draft("list_images", "media.list_images")
                .with_context(json!({"images": []})),
        );
        assert_eq!(listed, Ok(json!({"images": []})));
        let step = StepContext::draft("publish_gallery", "media.publish_gallery")
            .with_dependency("make_thumbnail", json!([]));
        let published = publish_gallery(&step).expect("nothing is missing");
        assert_eq!(
            (&published["count"], &published["first"]),
            (&json!(0), &Value::Null)
        );
    }
}
