// SPDX-License-Identifier: Apache-2.0

// Pins by the kernel, and DMA to pages that the kernel has pinned. This process is its own client,
// and makes the calls that an agent makes for others.

import CLinux
import CYardstick
import Glibc
import Host
import IOMMU
import SystemPackage

struct PinWorkload {
  private static let length = 64 << 20
  private let memory: PhysicalMemory
  private let space: AddressSpace
  private let pins: ExactPins
  private let yardstick: OpaquePointer
  private let pages: UnsafeMutableRawPointer

  /// - Returns: `nil` when the host has no io_uring.
  init?() throws {
    guard let yardstick = yardstick_pins_make(), let pins = try? ExactPins(OwnCalls()) else {
      return nil
    }
    guard
      let pages = mmap(
        nil, Self.length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
      pages != MAP_FAILED
    else { throw Errno(rawValue: errno) }
    madvise(pages, Self.length, MADV_NOHUGEPAGE)
    memset(pages, 1, Self.length)
    memory = try PhysicalMemory()
    space = try AddressSpace(of: HostTask(id: getpid()))
    (self.yardstick, self.pins, self.pages) = (yardstick, pins, pages)
  }

  func rows() throws -> [Row] {
    var rows = [try writeRow()]
    for (name, length, count) in [
      ("4 KiB", 4096, 2000), ("2 MiB", 2 << 20, 200), ("64 MiB", Self.length, 5),
    ] {
      rows.append(pinRow("exact pin, " + name, length: length, count: count))
    }
    return rows
  }

  private func pin(_ length: Int) throws(Errno) -> [FrameRun] {
    let start = UInt64(UInt(bitPattern: pages))
    var runs: [FrameRun] = []
    for buffer in try pins.pin(start..<start + UInt64(length), of: space) {
      runs += try memory.pin(.buffer(buffer), pages: buffer.pageCount)
    }
    return runs
  }

  private func writeRow() throws -> Row {
    guard yardstick_pins_register(yardstick, pages, UInt64(Self.length)) == 1,
      let run = try pin(Self.length).first
    else { throw Errno.noMemory }
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 64)
    bytes.initializeMemory(as: UInt8.self, repeating: 2)
    return Row(
      name: "DMA write, 64 B, exact pin", limit: 1.3, count: 20_000,
      yardstick: { [yardstick, pages] count in
        repeated(count) { index in
          let target = pages + (index % 4096) << 12
          return UInt64(yardstick_pins_write(yardstick, bytes.baseAddress, 64, target))
        }
      },
      ours: { [memory] count in
        repeated(count) { index in
          let target = PhysicalAddress(run.physical.rawValue + UInt64(index % 4096) << 12)
          return memory.write(UnsafeRawBufferPointer(bytes), to: target) == .done ? 64 : 0
        }
      })
  }

  private func pinRow(_ name: String, length: Int, count: Int) -> Row {
    Row(
      name: name, limit: length == 4096 ? 4 : 1.5, count: count,
      yardstick: { [yardstick, pages] count in
        repeated(count) { _ in
          yardstick_pins_register(yardstick, pages, UInt64(length)) == 1
            && yardstick_pins_register(yardstick, nil, 0) == 1 ? 1 : 0
        }
      },
      ours: { count in
        repeated(count) { _ in
          guard let runs = try? pin(length) else { return 0 }
          memory.unpin(runs)
          return 1
        }
      })
  }
}

/// Makes the calls of an agent in this process, except those that change the process.
private final class OwnCalls: MemoryAgent {
  let task = HostTask(id: getpid())

  func call(_ systemCall: AgentCall, _ arguments: UInt64...) throws(Errno) -> UInt64 {
    if [.closeRange, .setsid, .prctl].contains(systemCall) { return 0 }
    let six = arguments + [UInt64](repeating: 0, count: 6 - arguments.count)
    let result = CLinux_syscall(Int(systemCall.rawValue), six)
    guard !(-4095..<0).contains(result) else { throw Errno(rawValue: CInt(-result)) }
    return UInt64(bitPattern: Int64(result))
  }

  func end() {}
}
