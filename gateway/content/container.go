package content

import "strings"

// families maps the types that carry sound with or without pictures to the part
// of their name that both forms share.
var families = map[string]string{
	"video/webm": "webm", "audio/webm": "webm",
	"video/x-matroska": "x-matroska", "audio/x-matroska": "x-matroska",
	"video/mp4": "mp4", "audio/mp4": "mp4", "application/mp4": "mp4",
	"video/3gpp": "3gpp", "audio/3gpp": "3gpp", "video/3gpp2": "3gpp2", "audio/3gpp2": "3gpp2",
	"application/ogg": "ogg", "audio/ogg": "ogg", "video/ogg": "ogg",
	"video/x-ms-asf": "x-ms-asf",
}

func familyOf(sniffed string) string { return families[sniffed] }

// firm extensions stand for one kind only.
var firm = map[string]string{
	".m4a": "audio", ".m4b": "audio", ".weba": "audio", ".mka": "audio", ".oga": "audio", ".opus": "audio", ".spx": "audio", ".wma": "audio",
	".m4v": "video", ".mov": "video", ".mkv": "video", ".ogv": "video", ".wmv": "video",
}

// carries decides between sound and pictures in a container of a family. An
// extension of one meaning goes first, then the declaration (a browser's recorder
// declares audio/webm for a file named .webm), then the usual meaning of the
// extension, then the signature.
func carries(family, sniffed, ext, declared string) string {
	as := func(major string) string { return major + "/" + family }
	if major := firm[ext]; major != "" {
		return as(major)
	}
	if major, _, _ := strings.Cut(declared, "/"); major == "audio" || major == "video" {
		return as(major)
	}
	if sniffed == "application/ogg" || family == "ogg" && ext == ".ogg" {
		return as("audio")
	}
	if sniffed == "application/mp4" {
		return as("video")
	}
	return sniffed
}
