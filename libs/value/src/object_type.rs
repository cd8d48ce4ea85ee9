//! Types of the objects of a sequence.

/// Types that clients show, in the singular, in which types are stored. Objects of all other types,
/// such as `custom`, are maps.
pub const OBJECT_TYPES: [&str; 7] =
    ["image", "text", "distribution", "audio", "figure", "html", "point_cloud"];

/// Converts an object type to the singular. Archives use the plural.
///
/// ```
/// assert_eq!(matyan_value::singular_dtype("images"), "image");
/// assert_eq!(matyan_value::singular_dtype("class"), "class");
/// ```
pub fn singular_dtype(dtype: &str) -> &str {
    match dtype {
        "images" => "image",
        "texts" => "text",
        "distributions" => "distribution",
        "audios" => "audio",
        "figures" => "figure",
        "htmls" => "html",
        "point_clouds" => "point_cloud",
        other => other,
    }
}
