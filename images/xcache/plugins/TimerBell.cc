// Wakes XRootD's timer once a second, which bounds the delay of timed jobs.
//
// XrdScheduler's timer reads its queue, releases the lock and then waits until the
// first job is due.  A job that is queued in between does not wake it, and the timer
// sleeps until a later job is due: reports and monitoring packets then stop for
// minutes (observed with 5.5.3).  A job that is due before all others always wakes
// the timer.  Each job here is due earlier than the last, because the last one may
// have been queued in that gap.
//
// It is a protocol (xrd.protocol) because such plugins receive the scheduler; it
// accepts no connection.

#include <chrono>
#include <cstring>
#include <ctime>
#include <thread>

#include "Xrd/XrdProtocol.hh"
#include "Xrd/XrdScheduler.hh"
#include "XrdVersion.hh"

XrdVERSIONINFO(XrdgetProtocol, TimerBell);

namespace {

// A new job each time: the previous one may still be queued.
class Bell : public XrdJob {
public:
  Bell() : XrdJob("timer bell") {}
  void DoIt() override { delete this; }
};

class TimerBell : public XrdProtocol {
public:
  TimerBell() : XrdProtocol("timer bell") {}
  void DoIt() override {}
  XrdProtocol *Match(XrdLink *) override { return nullptr; }
  int Process(XrdLink *) override { return -1; }
  void Recycle(XrdLink *, int, const char *) override {}
  int Stats(char *, int, int) override { return 0; }
};

} // namespace

extern "C" {
XrdProtocol *XrdgetProtocol(const char *, char *, XrdProtocol_Config *config) {
  static TimerBell bell;
  XrdScheduler *scheduler = config->Sched;
  std::thread([scheduler] {
    // In the past, and earlier each time: enough seconds for thirty years.
    for (time_t due = 1000000000;; --due) {
      std::this_thread::sleep_for(std::chrono::seconds(1));
      scheduler->Schedule(new Bell, due);
    }
  }).detach();
  return &bell;
}
}
