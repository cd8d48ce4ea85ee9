//! Content types, and encoding of raw pixels and samples.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Cursor, Seek, Write},
    path::Path,
};

use matyan_wire::headers::UNKNOWN_TYPE;

use super::manifest::{Encoding, SampleKind};

/// Content types by extension.
const BY_EXTENSION: &[(&str, &str)] = &[
    ("bmp", "image/bmp"),
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("flac", "audio/flac"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("ipynb", "application/x-ipynb+json"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("jsonl", "application/jsonl"),
    ("log", "text/plain"),
    ("md", "text/markdown"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("ogg", "audio/ogg"),
    ("parquet", "application/vnd.apache.parquet"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("py", "text/x-python"),
    ("sh", "text/x-shellscript"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("toml", "application/toml"),
    ("tsv", "text/tab-separated-values"),
    ("txt", "text/plain"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("xml", "application/xml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zip", "application/zip"),
];

/// Content types by their first bytes, for names without a known extension.
const BY_START: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"PAR1", "application/vnd.apache.parquet"),
];

/// Number of bytes from the start that `content_type` looks at.
pub(super) const START_BYTES: usize = 16;

/// Guesses the content type by the name, or else by the first bytes.
pub(super) fn content_type(name: &str, start: &[u8]) -> &'static str {
    let extension = Path::new(name).extension().and_then(|it| it.to_str()).unwrap_or_default();
    let extension = extension.to_ascii_lowercase();
    let by_name = BY_EXTENSION.iter().find(|(known, _)| *known == extension);
    by_name
        .map(|(_, content_type)| *content_type)
        .or_else(|| match start {
            [b'R', b'I', b'F', b'F', _, _, _, _, kind @ ..] if kind.starts_with(b"WAVE") => Some("audio/wav"),
            [b'R', b'I', b'F', b'F', _, _, _, _, kind @ ..] if kind.starts_with(b"WEBP") => {
                Some("image/webp")
            }
            _ => BY_START
                .iter()
                .find(|(known, _)| start.starts_with(known))
                .map(|(_, content_type)| *content_type),
        })
        .unwrap_or(UNKNOWN_TYPE)
}

/// Encodes the content of one file into another.
pub(super) fn encode_file(encoding: Encoding, source: &Path, target: &Path) -> io::Result<()> {
    encode(encoding, &fs::read(source)?, BufWriter::new(File::create(target)?))
}

/// Returns encoded content.
pub(super) fn encoded(encoding: Encoding, raw: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    encode(encoding, raw, Cursor::new(&mut bytes))?;
    Ok(bytes)
}

fn encode(encoding: Encoding, raw: &[u8], mut file: impl Write + Seek) -> io::Result<()> {
    match encoding {
        Encoding::Identity => file.write_all(raw),
        Encoding::Png { width, height, channels } => encode_png(file, raw, width, height, channels),
        Encoding::Wav { rate, channels, samples } => encode_wav(file, raw, rate, channels, samples),
    }
}

fn encode_png(file: impl Write, pixels: &[u8], width: u32, height: u32, channels: u8) -> io::Result<()> {
    let mut encoder = png::Encoder::new(file, width, height);
    encoder.set_color(match channels {
        1 => png::ColorType::Grayscale,
        2 => png::ColorType::GrayscaleAlpha,
        3 => png::ColorType::Rgb,
        _ => png::ColorType::Rgba,
    });
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(io::Error::other)?;
    writer.write_image_data(pixels).map_err(io::Error::other)?;
    writer.finish().map_err(io::Error::other)
}

fn encode_wav(
    file: impl Write + Seek,
    raw: &[u8],
    rate: u32,
    channels: u16,
    samples: SampleKind,
) -> io::Result<()> {
    let sample_format = hound::SampleFormat::Int;
    let spec = hound::WavSpec { channels, sample_rate: rate, bits_per_sample: 16, sample_format };
    let mut writer = hound::WavWriter::new(file, spec).map_err(io::Error::other)?;
    match samples {
        SampleKind::I16 => {
            for sample in raw.as_chunks::<2>().0 {
                writer.write_sample(i16::from_le_bytes(*sample)).map_err(io::Error::other)?;
            }
        }
        SampleKind::F32 => {
            let samples = raw.as_chunks::<4>().0.iter().map(|sample| f32::from_le_bytes(*sample));
            // Normalized by the peak, as the client of Matyan 0.3 does.
            let peak = samples
                .clone()
                .filter(|sample| sample.is_finite())
                .fold(0.0_f32, |peak, it| peak.max(it.abs()));
            let scale = if peak > 0.0 { f32::from(i16::MAX) / peak } else { 0.0 };
            for sample in samples {
                // The conversion saturates, and makes NaN a zero.
                writer.write_sample((sample * scale) as i16).map_err(io::Error::other)?;
            }
        }
    }
    writer.finalize().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_known_by_name_or_by_content() {
        let check =
            |name: &str, start: &[u8], expected: &str| assert_eq!(content_type(name, start), expected);
        check("a/b.PNG", b"", "image/png");
        check("config.yaml", b"\x89PNG\r\n\x1a\n", "application/yaml");
        check("picture", b"\x89PNG\r\n\x1a\nxxxx", "image/png");
        check("sound", b"RIFF\x01\x02\x03\x04WAVE", "audio/wav");
        check("sound", b"RIFF\x01\x02\x03\x04WEBP", "image/webp");
        check("model.pt", b"PK\x03\x04", "application/zip");
        check("model.unknown", b"", UNKNOWN_TYPE);
        check("", b"", UNKNOWN_TYPE);
    }

    fn encoded(encoding: Encoding, raw: &[u8]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("a");
        let target = directory.path().join("b");
        fs::write(&source, raw).unwrap();
        encode_file(encoding, &source, &target).unwrap();
        let bytes = fs::read(target).unwrap();
        assert_eq!(super::encoded(encoding, raw).unwrap(), bytes);
        bytes
    }

    #[test]
    fn pixels_survive_png() {
        for channels in 1..=4_u8 {
            let pixels: Vec<u8> = (0..6 * channels).collect();
            let bytes = encoded(Encoding::Png { width: 3, height: 2, channels }, &pixels);
            let mut reader = png::Decoder::new(io::Cursor::new(bytes)).read_info().unwrap();
            let mut found = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut found).unwrap();
            assert_eq!((info.width, info.height, &found), (3, 2, &pixels));
        }
    }

    #[test]
    fn samples_survive_wav() {
        let raw: Vec<u8> = [1_i16, -2, i16::MAX, i16::MIN].iter().flat_map(|it| it.to_le_bytes()).collect();
        let bytes = encoded(Encoding::Wav { rate: 8000, channels: 2, samples: SampleKind::I16 }, &raw);
        let mut reader = hound::WavReader::new(io::Cursor::new(bytes)).unwrap();
        assert_eq!((reader.spec().sample_rate, reader.spec().channels), (8000, 2));
        let found: Vec<i16> = reader.samples().map(Result::unwrap).collect();
        assert_eq!(found, [1, -2, i16::MAX, i16::MIN]);
    }

    #[test]
    fn floats_are_normalized_by_their_peak() {
        let raw: Vec<u8> = [0.0_f32, 0.5, -0.25, f32::NAN].iter().flat_map(|it| it.to_le_bytes()).collect();
        let bytes = encoded(Encoding::Wav { rate: 8000, channels: 1, samples: SampleKind::F32 }, &raw);
        let mut reader = hound::WavReader::new(io::Cursor::new(bytes)).unwrap();
        let found: Vec<i16> = reader.samples().map(Result::unwrap).collect();
        assert_eq!(found, [0, i16::MAX, -16383, 0]);
    }
}
