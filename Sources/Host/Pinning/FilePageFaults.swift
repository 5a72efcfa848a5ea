// SPDX-License-Identifier: Apache-2.0

// Accesses of this process to mapped files whose page table entry is gone: a client has punched a
// hole, or has truncated the file. Each access waits on its thread until the handler has decided
// what it sees.
//
// The faults are those of user code (UFFD_USER_MODE_ONLY), so this process needs no privilege. The
// handler runs on a thread of its own. It may take no lock that a thread holds which accesses the
// files.

internal import CLinux
internal import Glibc
package import SystemPackage

package final class FilePageFaults: Sendable {
  /// What an access waits for.
  package enum Kind: Sendable {
    /// The file has no page there.
    case missing
    /// The file has a page, and the page table of this process does not have it.
    case unmapped
    /// The file ends before the page (SIGBUS).
    case behindEnd
  }

  package enum Answer: Sendable {
    /// Memory is mapped at the address.
    case replaced
    /// The access sees the page that the file has, or a new one; behind the end of the file none.
    case file
  }

  /// Returns, for an access to an address, the bytes there whose accesses are repeated, and what
  /// these accesses see.
  package typealias Resolver =
    @Sendable (_ address: UInt64, Kind) -> (UnsafeMutableRawBufferPointer, Answer)

  private let faults: OwnedDescriptor
  /// The write end of a pipe. When it is closed, the thread ends.
  private let lostPages: OwnedDescriptor
  /// The guarded range.
  private let base: UInt

  /// - Parameters:
  ///   - base: of memory that `CLinux_sigbus_guard()` guards.
  ///   - answer: called on the thread.
  /// - Throws: the errno of userfaultfd(2), `.notPermitted` for example; `.noMemory`.
  package init(
    in base: UnsafeMutableRawPointer,
    answer: @escaping Resolver
  ) throws(Errno) {
    faults = try OwnedDescriptor(checking: CLinux_file_faults_open())
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { throw Errno(rawValue: errno) }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    let messages = OwnedDescriptor(owning: ends[0])
    lostPages = OwnedDescriptor(owning: ends[1])
    self.base = UInt(bitPattern: base)
    let thread = FaultThread(faults: faults, messages: messages, answer: answer)
    guard startThread(named: "file-faults", stackSize: 256 << 10, { thread.run() }) else {
      throw .noMemory
    }
    CLinux_sigbus_ask(base, ends[1])
  }

  deinit { CLinux_sigbus_ask(UnsafeMutableRawPointer(bitPattern: base), -1) }

  /// Watches `count` bytes of a mapping at `base`, whole pages whose page table entries exist.
  package func watch(_ base: UnsafeMutableRawPointer, count: Int) throws(Errno) {
    let result = CLinux_file_faults_register(faults.rawValue, base, count)
    guard result == 0 else { throw Errno(rawValue: -result) }
  }
}

private struct FaultThread: Sendable {
  let faults: OwnedDescriptor
  /// The read end of the pipe.
  let messages: OwnedDescriptor
  let answer: FilePageFaults.Resolver

  func run() {
    while true {
      var requests = [
        pollfd(fd: faults.rawValue, events: Int16(POLLIN), revents: 0),
        pollfd(fd: messages.rawValue, events: Int16(POLLIN), revents: 0),
      ]
      guard poll(&requests, 2, -1) > 0 else { continue }
      if requests[0].revents & Int16(POLLIN) != 0 { answerFaults() }
      if requests[1].revents & Int16(POLLIN) != 0 {
        answerLostPage()
      } else if requests[1].revents != 0 {
        return
      }
    }
  }

  private func answerFaults() {
    var (address, hasPage) = (UInt64(0), false)
    while CLinux_file_faults_read(faults.rawValue, &address, &hasPage) == 0 {
      let (pages, answer) = answer(address, hasPage ? .unmapped : .missing)
      if answer == .file {
        // Both calls also wake. When the client changes the file again, the access faults again.
        if CLinux_file_faults_continue(faults.rawValue, pages.baseAddress, pages.count) == 0
          || CLinux_userfaultfd_zeropage(faults.rawValue, pages.baseAddress, pages.count) == 0
        {
          continue
        }
      }
      CLinux_file_faults_wake(faults.rawValue, pages.baseAddress, pages.count)
    }
  }

  private func answerLostPage() {
    var page: OpaquePointer?
    guard read(messages.rawValue, &page, MemoryLayout.size(ofValue: page)) > 0, let page else {
      return
    }
    let (_, answer) = answer(UInt64(CLinux_lost_page_address(page)), .behindEnd)
    CLinux_lost_page_answer(page, answer == .replaced)
  }
}
