package content

// extensions maps what file names usually mean. It is our own table because the
// system's differs from machine to machine, and a route must not.
var extensions = map[string]string{
	".aac": "audio/aac", ".aiff": "audio/aiff", ".flac": "audio/flac", ".m4a": "audio/mp4", ".m4b": "audio/mp4", ".mid": "audio/midi",
	".mka": "audio/x-matroska", ".mp3": "audio/mpeg", ".oga": "audio/ogg", ".ogg": "audio/ogg", ".opus": "audio/ogg", ".wav": "audio/wav",
	".weba": "audio/webm", ".wma": "audio/x-ms-asf", ".amr": "audio/amr", ".spx": "audio/ogg",

	".avi": "video/x-msvideo", ".flv": "video/x-flv", ".m2ts": "video/mp2t", ".m4v": "video/mp4", ".mkv": "video/x-matroska", ".mov": "video/quicktime",
	".mp4": "video/mp4", ".mpeg": "video/mpeg", ".mpg": "video/mpeg", ".mts": "video/mp2t", ".ogv": "video/ogg", ".webm": "video/webm", ".wmv": "video/x-ms-asf",
	".3gp": "video/3gpp", ".3g2": "video/3gpp2",

	".avif": "image/avif", ".bmp": "image/bmp", ".gif": "image/gif", ".heic": "image/heic", ".jpeg": "image/jpeg", ".jpg": "image/jpeg",
	".jxl": "image/jxl", ".png": "image/png", ".svg": "image/svg+xml", ".tga": "image/x-tga", ".tif": "image/tiff", ".tiff": "image/tiff", ".webp": "image/webp",

	".csv": "text/csv", ".css": "text/css", ".htm": "text/html", ".html": "text/html", ".log": "text/plain", ".md": "text/markdown",
	".srt": "text/plain", ".tsv": "text/tab-separated-values", ".txt": "text/plain", ".vtt": "text/vtt", ".xml": "text/xml",
	".doc": "application/msword", ".epub": "application/epub+zip", ".pdf": "application/pdf", ".rtf": "application/rtf",
	".ppt": "application/vnd.ms-powerpoint", ".xls": "application/vnd.ms-excel", ".xhtml": "application/xhtml+xml",
	".docx": office + "wordprocessingml.document", ".pptx": office + "presentationml.presentation", ".xlsx": office + "spreadsheetml.sheet",
	".odp": "application/vnd.oasis.opendocument.presentation", ".ods": "application/vnd.oasis.opendocument.spreadsheet", ".odt": "application/vnd.oasis.opendocument.text",

	".gz": "application/gzip", ".jar": "application/java-archive", ".js": "application/javascript", ".json": "application/json",
	".jsonl": "application/x-ndjson", ".ndjson": "application/x-ndjson", ".parquet": "application/vnd.apache.parquet", ".tar": "application/x-tar",
	".toml": "application/toml", ".wasm": "application/wasm", ".yaml": "application/yaml", ".yml": "application/yaml", ".zip": "application/zip",
}
