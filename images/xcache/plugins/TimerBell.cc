// Rings XRootD's timer once a second, so that no timed job is late for longer.
//
// XrdScheduler's timer looks into its queue, lets go of the lock and then waits
// for the first job's time.  A job that is queued in between rings in vain, and
// the timer sleeps until some later job is due: reports and monitoring packets
// then stand still for minutes (seen with 5.5.3).  A job that is due before all
// others is always rung for, so one a second bounds the delay.  It must be due
// before the one of a second ago, too: that one may have been rung for in vain.
//
// It comes as a protocol (xrd.protocol), the kind of plugin that is given the
// scheduler, and claims no connection.

#include <chrono>
#include <cstring>
#include <ctime>
#include <thread>

#include "Xrd/XrdProtocol.hh"
#include "Xrd/XrdScheduler.hh"
#include "XrdVersion.hh"

XrdVERSIONINFO(XrdgetProtocol, TimerBell);

namespace {

// A new one each time: the one before may still be queued.
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
    // Long ago, and earlier each time: thirty years of seconds are left.
    for (time_t due = 1000000000;; --due) {
      std::this_thread::sleep_for(std::chrono::seconds(1));
      scheduler->Schedule(new Bell, due);
    }
  }).detach();
  return &bell;
}
}
