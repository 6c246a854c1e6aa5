package sandbox

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/valetkey/valetkey/configuration"
)

// PolicyOf returns what a server with a configuration needs. file is the file of the configuration; ""
// if there is none.
//
// Files are replaced by renaming new ones, and links are pointed elsewhere: that of a certificate at
// each renewal, that of a ConfigMap in Kubernetes at each change. So the directories are allowed, those
// of a link and of its target.
func PolicyOf(c *configuration.Configuration, file string) Policy {
	p := Policy{Write: c.Sandbox.Write}
	for _, path := range append(append(named(c), c.SecretFiles()...), file) {
		p.Read = append(p.Read, around(path)...)
	}
	p.Read = append(p.Read, c.Sandbox.Read...)
	if path, ok := strings.CutPrefix(c.Database, "sqlite:"); ok && path != ":memory:" {
		// SQLite creates files next to the database.
		p.Write = append(p.Write, around(path)...)
	}
	p.Write = append(p.Write, around(c.Audit.CheckpointFile)...)
	return p
}

// around returns the directories of a file, and of the file that it links to. A directory is returned
// itself, and so is a file in the root, which as a directory would be everything.
func around(path string) (paths []string) {
	if path == "" {
		return nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = path
	}
	for _, path := range []string{path, real} {
		info, err := os.Stat(path)
		switch dir := filepath.Dir(path); {
		case err == nil && info.IsDir(), dir == "/":
			paths = append(paths, path)
		default:
			paths = append(paths, dir)
		}
	}
	return paths
}

// named returns every string in the settings that is the path of something. Members that are added to
// the configuration later are found too.
func named(c *configuration.Configuration) (paths []string) {
	settings := *c
	settings.Declarations, settings.Database = configuration.Declarations{}, ""
	var walk func(reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() {
					walk(v.Field(i))
				}
			}
		case reflect.Slice, reflect.Array:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.String:
			if text := v.String(); text != "" && !strings.Contains(text, "\n") {
				if _, err := os.Stat(text); err == nil {
					paths = append(paths, text)
				}
			}
		}
	}
	walk(reflect.ValueOf(settings))
	return paths
}
