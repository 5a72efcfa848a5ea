// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import Synchronization
import SystemPackage

/// Private memory of this process whose pages are not there until the test supplies them. A thread
/// that needs a page waits meanwhile.
final class LateMemory: @unchecked Sendable {
  let pages: Int
  private let base: UnsafeMutableRawPointer
  private let faults: Int32
  private let isSupplied = Mutex(false)

  var address: UInt64 { UInt64(UInt(bitPattern: base)) }
  var length: UInt64 { UInt64(pages * 4096) }

  /// - Throws: where the host does not permit userfaultfd(2) for faults in the kernel.
  init(pages: Int) throws {
    self.pages = pages
    guard
      let base = mmap(
        nil, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
      base != MAP_FAILED
    else { throw Errno(rawValue: errno) }
    self.base = base
    faults = CLinux_userfaultfd_register(base, pages * 4096)
    guard faults >= 0 else {
      munmap(base, pages * 4096)
      throw Errno(rawValue: -faults)
    }
  }

  deinit {
    // Closing the descriptor ends all waits.
    close(faults)
    munmap(base, pages * 4096)
  }

  /// Waits until a thread needs a page.
  /// - Returns: `false` when none does within 10 seconds.
  func awaitFault() -> Bool {
    for _ in 0..<100_000 {
      if CLinux_userfaultfd_read(faults) == 0 { return true }
      usleep(100)
    }
    return false
  }

  /// Supplies all pages.
  func supply() {
    isSupplied.withLock { isSupplied in
      if !isSupplied { _ = CLinux_userfaultfd_zeropage(faults, base, pages * 4096) }
      isSupplied = true
    }
  }

  /// Starts a thread that supplies the pages `delay` microseconds after they are needed.
  func supply(after delay: useconds_t) {
    let thread = Thread { [self] in
      var polls = 0
      while !isSupplied.withLock({ $0 }), CLinux_userfaultfd_read(faults) != 0, polls < 20_000 {
        usleep(50)
        polls += 1
      }
      usleep(delay)
      supply()
    }
    thread.start()
  }
}

/// A thread of a test.
final class Thread: @unchecked Sendable {
  private let body: @Sendable () -> Void
  private var thread = pthread_t()

  init(_ body: @escaping @Sendable () -> Void) { self.body = body }

  func start() {
    let argument = Unmanaged.passRetained(self).toOpaque()
    pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        Unmanaged<Thread>.fromOpaque(argument).takeRetainedValue().body()
        return nil
      }, argument)
  }

  func join() { pthread_join(thread, nil) }
}
