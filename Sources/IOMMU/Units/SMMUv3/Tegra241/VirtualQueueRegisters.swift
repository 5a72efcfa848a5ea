// SPDX-License-Identifier: Apache-2.0

// Page 0 of a virtual interface: a block of registers for each of its queues.

package import Host

/// The registers of one queue.
package struct VirtualQueueRegisters: Sendable {
  package enum Register: Int, CaseIterable, Sendable {
    /// CONS_INDX: RD, [19:0]; ERR, [30:24]. Software sets it while the queue is disabled.
    case consumer = 0x00
    /// PROD_INDX: WR, [19:0].
    case producer = 0x04
    /// CONFIG: CMDQ_EN, [0].
    case configuration = 0x08
    /// STATUS: CMDQ_EN_OK, [0].
    case status = 0x0c
    /// GERROR: CMDQ_ERR, [0]. An error is active while it differs from GERRORN.
    case error = 0x10
    /// GERRORN: CMDQ_ERR, [0], which software sets to acknowledge an error.
    case acknowledgement = 0x14
  }

  /// The length of the page in bytes.
  package static let pageLength = 64 << 10
  /// The distance in bytes between the registers of two queues.
  private static let stride = 0x80

  private let pages: SharedRegisters
  private let offset: Int

  package init(of queue: Int, in pages: SharedRegisters) {
    self.pages = pages
    offset = queue * Self.stride
  }

  package subscript(register: Register) -> UInt32 {
    get { pages.load(offset + register.rawValue) }
    nonmutating set { pages.store(newValue, at: offset + register.rawValue) }
  }

  /// Stores `value` into a read-only register, unless the register has that value. Software can
  /// write to the memory of the register, and such a write is undone here.
  func update(_ register: Register, to value: UInt32) {
    if self[register] != value { self[register] = value }
  }
}
