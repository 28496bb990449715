// Adds the origin to the names of cached files: /path of root://host:port is cached
// as /host:port/path.
//
// A forwarding cache names a file only by its path, so two origins that contain
// different files under one path would be served each other's bytes.  XRootD
// gets the name from this plugin instead (pss.namelib -lfncachesrc), which is called
// with "/path?src=root://user@host:port".

#include <cerrno>
#include <cstring>
#include <string>

#include "XrdOuc/XrdOucName2Name.hh"
#include "XrdVersion.hh"

XrdVERSIONINFO(XrdOucgetName2Name, OriginName);

namespace {

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
    std::string source = whole.substr(mark + 5);
    if (const auto scheme = source.find("://"); scheme != std::string::npos)
      source = source.substr(scheme + 3);
    source = source.substr(0, source.find_first_of("/&"));
    source = source.substr(source.find('@') + 1);
    if (source.empty())
      return EINVAL;
    return copy("/" + source + whole.substr(0, mark), buffer, size);
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
