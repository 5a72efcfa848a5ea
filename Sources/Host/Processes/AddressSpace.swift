// SPDX-License-Identifier: Apache-2.0

// The address space (mm) of another process.
//
// The object owns an open /proc/<pid>/mem, /proc/<pid>/maps and /proc/<pid>/pagemap. The kernel
// binds these open files to the mm that the process had when they were opened, not to the process
// ID. After exec or exit they read 0 bytes, also when another process gets the same ID. Accesses
// ignore page protection (FOLL_FORCE), as DMA to a pinned page does.

internal import CLinux
internal import Glibc
package import SystemPackage

package final class AddressSpace: Sendable {
  /// The processes that have this address space.
  let processes: SharingProcesses
  private let firstProcess: Int32
  /// /proc/<pid>/mem.
  let memory: OwnedDescriptor
  /// /proc/<pid>/maps, for ``area(containing:)``.
  let maps: OwnedDescriptor
  /// /proc/<pid>/pagemap, for ``faultInShared(_:forWriting:)``.
  let pagemap: OwnedDescriptor
  /// How pages are pinned.
  package let pinning = AddressSpacePinning()

  /// Opens the address space of the process that `task` belongs to.
  /// - Throws: `.permissionDenied` or `.notPermitted` when this server may not ptrace the process,
  ///   `.noSuchProcess`.
  package convenience init(of task: HostTask) throws(Errno) {
    try self.init(of: task, process: try task.processID(), nil)
  }

  /// - Parameters:
  ///   - process: the ID of the process.
  ///   - identified: the same process. `nil` when it cannot be identified.
  init(
    of task: HostTask, process: Int32, _ identified: ClientProcess?
  ) throws(Errno) {
    firstProcess = process
    processes = SharingProcesses(identified)
    // The three descriptors and a pidfd.
    let client = ClientIdentity(user: (try? task.realUserID()) ?? 0, process: process)
    let charge = try ChargedShares.descriptors.charge(client, count: 4)
    memory = try ProcFile.open("/proc/\(task.id)/mem", O_RDWR, charge)
    maps = try ProcFile.open("/proc/\(task.id)/maps", O_RDONLY)
    pagemap = try ProcFile.open("/proc/\(task.id)/pagemap", O_RDONLY)
  }

  /// The process whose call was served last. Only for look-ups under /proc while a call of a
  /// process with this address space is being served. The ID does not identify the address space.
  package var processID: Int32 { processes.caller ?? firstProcess }

  /// Whether the processes that made calls with this address space have ended. This server may keep
  /// the mm for a moment longer than they do.
  package var isAbandoned: Bool { processes.haveEnded || isGone }

  /// Whether process `id` has this address space.
  package func isMemory(ofProcess id: Int32) -> Bool {
    if processes.caller == nil { return id == firstProcess && !isGone }
    return processes.areSharing(with: id)
  }

  /// Whether a process other than `process` has this address space, as far as calls have shown.
  package func isShared(besides process: Int32) -> Bool {
    processes.another(than: process) != nil
  }

  /// Whether the kernel has torn the mm down: its last process has ended or executed another
  /// program. Reading an unmapped address fails with EIO; only an mm without users reads as an
  /// empty file.
  package var isGone: Bool {
    pinning.endWithProcess()
    var byte: UInt8 = 0
    return pread(memory.rawValue, &byte, 1, 0) == 0
  }

  /// Reads up to `buffer.count` bytes at `address`.
  /// - Returns: the bytes read before the first unmapped page; 0 also when ``isGone``.
  package func read(at address: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    max(
      0,
      pread(memory.rawValue, buffer.baseAddress, buffer.count, off_t(truncatingIfNeeded: address)))
  }

  /// Writes up to `bytes.count` bytes at `address`.
  /// - Returns: the bytes written, as ``read(at:into:)``.
  package func write(_ bytes: UnsafeRawBufferPointer, at address: UInt64) -> Int {
    max(
      0, pwrite(memory.rawValue, bytes.baseAddress, bytes.count, off_t(truncatingIfNeeded: address))
    )
  }

  /// Whether page-table entries map all pages of `range` ("present" in /proc/<pid>/pagemap).
  package func areMapped(_ range: Range<UInt64>) -> Bool {
    forEachEntry(of: range) { entry, _ in entry >> 63 == 1 }
  }

  /// Whether every page of `range` can be read.
  package func areReadable(_ range: Range<UInt64>) -> Bool {
    forEachEntry(of: range) { entry, address in
      entry >> 63 == 1 || touch(at: address, pages: 1)
    }
  }

  private func forEachEntry(
    of range: Range<UInt64>, _ isRight: (UInt64, _ address: UInt64) -> Bool
  ) -> Bool {
    var entries = [UInt64](repeating: 0, count: 512)
    var address = range.lowerBound
    while address < range.upperBound {
      let count = Int(min(512, (range.upperBound - address) >> 12))
      let bytes = pread(pagemap.rawValue, &entries, count * 8, off_t(address >> 12) * 8)
      guard bytes == count * 8 else { return false }
      for index in 0..<count {
        guard isRight(entries[index], address) else { return false }
        address += 4096
      }
    }
    return true
  }

  /// Faults in `count` pages from `address` on, by reading a byte of each.
  /// - Returns: false when a page cannot be read.
  package func touch(at address: UInt64, pages count: UInt64) -> Bool {
    var byte: UInt8 = 0
    for index in 0..<count {
      let address = address &+ index &* 4096
      guard pread(memory.rawValue, &byte, 1, off_t(truncatingIfNeeded: address)) == 1 else {
        return false
      }
    }
    return true
  }
}
