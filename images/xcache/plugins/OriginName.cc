// Adds the origin and the content to the names of cached files: /path of root://host:port
// is cached as /host:port/path, and with the parameter shoppe.content=NAME in its URL as
// /host:port@NAME/path.
//
// A forwarding cache names a file only by its path, so two origins that contain
// different files under one path would be served each other's bytes, and a file that
// changes at its origin would be served as it was.  Who knows what the file is now names
// that content, and a changed file is another entry; the origin ignores the parameter.
// XRootD gets the name from this plugin instead (pss.namelib -lfncachesrc+), which is
// called with "/path?src=root://user@host:port&parameters".

#include <cerrno>
#include <cstring>
#include <string>

#include "XrdOuc/XrdOucName2Name.hh"
#include "XrdVersion.hh"

XrdVERSIONINFO(XrdOucgetName2Name, OriginName);

namespace {

const std::string CONTENT = "&shoppe.content=";
const std::string::size_type LONGEST_CONTENT = 64;

// Whether text may be a part of a file's name: no separator, and nothing that stands for
// another folder.
bool isContent(const std::string &text) {
  return !text.empty() && text.size() <= LONGEST_CONTENT &&
         text.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyz") == std::string::npos;
}

int copy(const std::string &name, char *buffer, int size) {
  if (static_cast<int>(name.size()) >= size)
    return ENAMETOOLONG;
  memcpy(buffer, name.c_str(), name.size() + 1);
  return 0;
}

class OriginName : public XrdOucName2Name {
public:
  // Only the mapping to the cache's name changes anything.
  int lfn2pfn(const char *lfn, char *buffer, int size) override { return copy(lfn, buffer, size); }
  int lfn2rfn(const char *lfn, char *buffer, int size) override { return copy(lfn, buffer, size); }

  int pfn2lfn(const char *pfn, char *buffer, int size) override {
    const std::string whole(pfn);
    const auto mark = whole.find("?src=");
    if (mark == std::string::npos)
      return copy(whole, buffer, size);
    std::string source = whole.substr(mark + 5), content;
    if (const auto start = source.find(CONTENT); start != std::string::npos) {
      content = source.substr(start + CONTENT.size());
      content = content.substr(0, content.find('&'));
      if (!isContent(content))
        return EINVAL;
      content = "@" + content;
    }
    if (const auto scheme = source.find("://"); scheme != std::string::npos)
      source = source.substr(scheme + 3);
    source = source.substr(0, source.find_first_of("/&"));
    source = source.substr(source.find('@') + 1);
    if (source.empty())
      return EINVAL;
    return copy("/" + source + content + whole.substr(0, mark), buffer, size);
  }
};

} // namespace

extern "C" {
XrdOucName2Name *XrdOucgetName2Name(XrdSysError *, const char *, const char *, const char *,
                                    const char *) {
  static OriginName names;
  return &names;
}
}
