// SPDX-License-Identifier: Apache-2.0

import IOMMU
import Synchronization

@testable import PCI

/// A path to one page of memory at IOVA 0x1000. Every other request is aborted.
final class OnePage: DMAPath {
  static let iova: UInt64 = 0x1000
  private let bytes = Mutex([UInt8](repeating: 0, count: 4096))
  private let requestCount = Mutex(0)

  var requests: Int { requestCount.withLock { $0 } }
  var contents: [UInt8] { bytes.withLock { $0 } }
  func fill(_ value: UInt8) { bytes.withLock { $0 = Array(repeating: value, count: 4096) } }

  func read(
    _ iova: IOVA, _ attributes: DMAAttributes, into buffer: UnsafeMutableRawBufferPointer
  ) -> DMAOutcome {
    requestCount.withLock { $0 += 1 }
    guard iova.rawValue == Self.iova, buffer.count <= 4096 else { return .aborted }
    bytes.withLock { buffer.copyBytes(from: $0.prefix(buffer.count)) }
    return .completed
  }

  func write(
    _ bytes: UnsafeRawBufferPointer, to iova: IOVA, _ attributes: DMAAttributes
  ) -> DMAOutcome {
    requestCount.withLock { $0 += 1 }
    guard iova.rawValue == Self.iova, bytes.count <= 4096 else { return .aborted }
    self.bytes.withLock { $0.replaceSubrange(0..<bytes.count, with: bytes) }
    return .completed
  }
}

/// The interrupts that a function has delivered.
final class ReceivedInterrupts: Sendable {
  private let list = Mutex<[Function.Interrupt]>([])
  func add(_ interrupt: Function.Interrupt) { list.withLock { $0.append(interrupt) } }
  /// Returns the interrupts since the last call.
  func drain() -> [Function.Interrupt] {
    list.withLock { list in
      defer { list = [] }
      return list
    }
  }
}

extension Function {
  convenience init<Model: Endpoint>(_ model: Model.Type, path: any DMAPath = OnePage()) {
    self.init(
      Model(), description: Model.description, at: RequesterID(bus: 1, device: 0, function: 0),
      path: path)
  }

  func write(_ offset: UInt64, _ value: UInt64, width: Int = 4) {
    write(RegisterAccess(bar: 0, offset: offset, width: width), value)
  }
  func read(_ offset: UInt64, width: Int = 4) -> UInt64 {
    read(RegisterAccess(bar: 0, offset: offset, width: width))
  }
  var command: CommandRegister {
    get { CommandRegister(rawValue: readConfig(Type0Header.command)) }
    set { writeConfig(Type0Header.command, newValue.rawValue) }
  }
}
