// SPDX-License-Identifier: Apache-2.0

// Pins of shared memory that the kernel keeps: the pages are mapped, and registered as a buffer of
// an io_uring. The server also watches for pages that their file loses (userfaultfd).

import CLinux
import CYardstick
import Glibc
import Host
import IOMMU
import SystemPackage

struct FilePinWorkload {
  private static let length = 512 << 20
  private let memory: PhysicalMemory
  private let yardstick: OpaquePointer
  private let file: OwnedDescriptor

  /// - Returns: `nil` when the host has no io_uring, or does not let this process pin that much.
  init?() throws {
    guard let yardstick = yardstick_pins_make() else { return nil }
    file = OwnedDescriptor(
      owning: try MemoryFile.create(name: "iommufd-bench", length: UInt64(Self.length)))
    let result = CLinux_fallocate(file.rawValue, 0, UInt64(Self.length))
    guard result == 0 else { throw Errno(rawValue: -result) }
    guard yardstick_pins_register_file(yardstick, file.rawValue, UInt64(Self.length)) == 1 else {
      return nil
    }
    memory = try PhysicalMemory()
    self.yardstick = yardstick
  }

  func rows() -> [Row] {
    [("4 KiB", 4096, 2000), ("2 MiB", 2 << 20, 100), ("512 MiB", Self.length, 1)].map {
      name, length, count in
      Row(
        name: "exact pin of a file, " + name, limit: length == 4096 ? 2.5 : 1.5, count: count,
        yardstick: { [yardstick, file] count in
          repeated(count) { _ in
            yardstick_pins_register_file(yardstick, file.rawValue, UInt64(length)) == 1 ? 1 : 0
          }
        },
        ours: { [memory, file] count in
          repeated(count) { _ in
            guard let runs = try? memory.pin(.file(file, offset: 0), pages: length >> 12) else {
              return 0
            }
            memory.unpin(runs)
            return 1
          }
        })
    }
  }
}
